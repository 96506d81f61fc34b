"""What an adapter of a model looks like before there is one: its configuration and its tensors' names and shapes, without weights."""

from typing import Any

import peft
import torch
import transformers

from adamergex.adapters.adapter import Adapter
from adamergex.models import adapter_setup
from adamergex.models.adapter_settings import AdapterSettings
from adamergex.models.families import Kind, does_not_load
from adamergex.models.resident import CLASSES, SLOT, jsonable
from adamergex.storage.checkpoints import Checkpoint


def expected(checkpoint: Checkpoint, settings: AdapterSettings, kind: Kind, classes: int = 0) -> Adapter:
    """An adapter as it would be trained on a base model, with ones in place of weights, which take no memory.

    Args:
        checkpoint: the base model; its configuration alone is read.
        settings: structure and size.
        kind: how the model predicts.
        classes: the number of classes, for kind `classes`.

    Raises:
        ModelError: the model has no module that `settings` names, or its configuration does not load.
    """
    more: dict[str, Any] = {"num_labels": classes} if kind == "classes" else {}
    try:
        config = transformers.AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=checkpoint.trust_remote_code, **more
        )
        with torch.device("meta"):
            base = CLASSES[kind].from_config(config, trust_remote_code=checkpoint.trust_remote_code)
    except Exception as error:  # transformers passes on all kinds of errors
        raise does_not_load(checkpoint, "its configuration does not load", error) from error
    completed = adapter_setup.config(settings, base, kind, checkpoint.name)
    with torch.device("meta"):
        model = adapter_setup.attach(base, completed, SLOT, "adapter.target_modules")
        if isinstance(completed, peft.PromptLearningConfig):
            tensors = {"prompt_embeddings": model.prompt_encoder[SLOT].embedding.weight}
        else:
            tensors = peft.get_peft_model_state_dict(model, adapter_name=SLOT, save_embedding_layers=False)
    described = {key: jsonable(value) for key, value in model.peft_config[SLOT].to_dict().items()}
    one = torch.ones(())
    return Adapter(
        described | {"base_model_name_or_path": checkpoint.name},
        {name: one.expand(tensor.shape) for name, tensor in tensors.items()},
        "the recipe's adapters",
    )
