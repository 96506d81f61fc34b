"""What is asked of a corpus for a reference task: the settings of its windows."""

from typing import Any

from pydantic import BaseModel

from adamergex.data.corpus import Request
from adamergex.models.families import Family
from adamergex.training.objectives import overhead

_SETTINGS = {"tokens", "characters", "window", "heldout", "duplicates", "boilerplate", "other_languages"}


def request(settings: BaseModel, language: str, seed: int, family: Family, tokenizer: Any) -> Request:
    """The windows that a model is trained on; they leave room for the special tokens that it wants around them.

    Args:
        settings: those of a `Reference`, with one of the two budgets.
        language: BCP 47 code of the text.
        seed: of the shuffling of documents.
        family: of the model.
        tokenizer: the model's.
    """
    given = settings.model_dump(include=_SETTINGS)
    given["window"] -= overhead(family, tokenizer)
    given |= {key: given[key] == "drop" for key in ("duplicates", "boilerplate")}
    return Request(language=language, seed=seed, **given)
