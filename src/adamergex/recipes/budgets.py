"""Whether there is as much plain text as a recipe wants, before a task is trained in vain."""

from pathlib import Path
from tempfile import TemporaryDirectory

from adamergex.data import corpus, sources
from adamergex.data.settings import Source
from adamergex.errors import DataError
from adamergex.models.families import family, load_tokenizer, runs_code
from adamergex.recipes.recipe import Recipe
from adamergex.storage.checkpoints import Checkpoint

# Files that tokenizers are read from; of a model on the hub they may not be here.
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "sentencepiece.bpe.model", "vocab.json")


def check(recipe: Recipe, source: Source, folder: Path, language: str, model: Checkpoint | None) -> None:
    """Look whether a corpus has text for the budget. Text that is by far enough is not cleaned or tokenized for it.

    Args:
        recipe: of the run.
        source: of the corpus, with `{language}` filled in.
        folder: what relative paths are relative to.
        language: of the corpus.
        model: the base model, as far as it is at hand.

    Raises:
        DataError: the corpus holds no text, or too little of it; the message is that of the run.
        ModelError: the tokenizer does not load.
    """
    reference = recipe.reference.model_copy(update=recipe.reference.budget.model_dump())
    enough = corpus.pool_size(reference.tokens, reference.characters)
    characters = size = 0
    for text in sources.texts(source, folder, language, reference.text):
        characters += len(text.strip())
        size += len(text.encode())
        if characters > enough:
            return
    if not characters:
        raise DataError(f"corpus of {language}: holds no text")
    if model is not None and has_tokenizer(model):
        from adamergex.training.corpus_request import request

        tokenizer = load_tokenizer(model)
        asked = request(reference, language, recipe.seed, family(model), tokenizer)
        texts = sources.texts(source, folder, language, reference.text)
        with TemporaryDirectory() as made:
            corpus.build(texts, tokenizer, Path(made), asked, name=f"corpus of {language}")
    elif characters < (reference.characters or 0) or size < (reference.tokens or 0):
        # No text has more tokens than bytes.
        unit, wanted = ("tokens", reference.tokens) if reference.tokens else ("characters", reference.characters)
        raise DataError(
            f"corpus of {language}: the corpus has {characters:,} characters, the budget is {wanted:,} {unit} for each language; "
            f"add text or lower reference.{unit}"
        )


def has_tokenizer(model: Checkpoint) -> bool:
    """Whether the tokenizer is here, and loads without code that comes with it: nothing of that runs for a look."""
    return not runs_code(model) and any((model.folder / name).is_file() for name in _TOKENIZERS)
