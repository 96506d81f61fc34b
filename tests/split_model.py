"""What `test_sharding` starts on two processes: a model in pieces beside the whole one, for every family and structure.

torchrun --nproc_per_node 2 -m tests.split_model FOLDER FAMILY …
"""

import re
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from adamergex.distributed import Processes
from adamergex.inference import generation
from adamergex.models.adapter_settings import IA3, AdapterSettings, Lora, Prefix
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import Kind
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from tests.families import FAMILY

STRUCTURES: list[AdapterSettings] = [
    Lora(r=2, alpha=4),
    IA3(structure="ia3"),
    Prefix(structure="prefix", virtual_tokens=3),
]
IDS = [[1, 5, 9, 33, 2, 8, 40, 41], [1, 5, 9, 33, 60]]
EXAMPLES: dict[Kind, list[EncodedExample]] = {
    "causal": [EncodedExample(ids, [2, len(ids) - 1]) for ids in IDS],
    "seq2seq": [EncodedExample(ids[:4], [1, 2], source=tuple(ids)) for ids in IDS],
    "masked": [EncodedExample(ids, [2], labels=(7,)) for ids in IDS],
    "classes": [EncodedExample(ids, [], labels=(n,)) for n, ids in enumerate(IDS)],
}


def check(name: str, folder: Path, kind: Kind, settings: AdapterSettings) -> None:
    """Loss, gradient, adapter and what is written are those of the whole model."""
    checkpoint, classes = Checkpoint(name, folder, name), 2 if kind == "classes" else 0
    whole, split = (
        ResidentModel(checkpoint, "float32", settings, kind=kind, classes=classes, split_over=n) for n in (0, 2)
    )
    # Layers are numbered.
    of_layers = [p for key, p in split.model.named_parameters() if re.search(r"\.\d+\.", key) and not p.requires_grad]
    pieces = [p for p in of_layers if isinstance(p, DTensor)]
    assert len(pieces) == len(of_layers) > 10
    assert sum(p.to_local().numel() for p in pieces) <= 0.6 * sum(p.numel() for p in pieces)
    assert not any(isinstance(parameter, DTensor) for parameter in split.trainable())
    # Twice: a layer is put together anew each time.
    for seed in (3, 4):
        losses, grads = [], []
        for resident in (whole, split):
            resident.model.eval()
            resident.start(seed)
            for parameter in resident.trainable():
                parameter.grad = None
            loss = resident.loss(EXAMPLES[kind])
            loss.backward()
            losses.append(loss.item())
            grads.append([parameter.grad for parameter in resident.trainable()])
        assert losses[0] == losses[1], (name, kind, settings, losses)
        # The gradients that meet at T5's first layer meet in another order.
        apart = max(float((a - b).norm() / a.norm()) for a, b in zip(*grads, strict=True) if a is not None and a.any())
        assert apart < 1e-6, (name, kind, settings, apart)
    adapter = whole.adapter()
    split.set_adapter(adapter)
    assert all(torch.equal(tensor, adapter.tensors[key]) for key, tensor in split.adapter().tensors.items())
    if kind in ("causal", "seq2seq"):
        for state in (ResidentModel.without_adapter, lambda resident: nullcontext()):
            texts = []
            for resident in (whole, split):
                with torch.inference_mode(), state(resident):
                    texts.append(generation.generate(resident, IDS, "text", 6))
            assert texts[0] == texts[1], (name, kind, settings, texts)


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    processes = Processes()
    processes.wait()
    torch.set_num_threads(1)
    for name in names:
        kinds: dict[str, tuple[Kind, ...]] = {"encoder": ("masked", "classes"), "seq2seq": ("seq2seq",)}
        for kind in kinds.get(FAMILY.get(name, ""), ("causal",)):
            for settings in STRUCTURES:
                # PEFT's prefix reads no model that predicts hidden tokens.
                if not (kind == "masked" and isinstance(settings, Prefix)):
                    check(name, folder / name, kind, settings)
            processes.wait()
    print("the same")


if __name__ == "__main__":
    main()
