"""Base models to begin with, by the memory that there is."""

from dataclasses import dataclass

from adamergex.models.machine import Machine
from adamergex.storage.checkpoints import PACKAGED

# Weights, activations and logits take about as much again as the weights alone, with batches cut to fit.
_TIMES_WEIGHTS = 2.5


@dataclass(frozen=True)
class BaseModel:
    """A base model on the hub, or in a package.

    Attributes:
        name: as a recipe writes it.
        parameters: in billions.
        about: what speaks for or against it.
    """

    name: str
    parameters: float
    about: str

    def needed(self, machine: Machine) -> float:
        """The memory that it takes to train an adapter of it, in bytes: weights in float32 on a CPU, in bfloat16 on a GPU."""
        return self.parameters * 1e9 * (4 if machine.device == "cpu" else 2) * _TIMES_WEIGHTS


SMALLEST = BaseModel("google/gemma-3-270m", 0.27, "140 languages; accept its terms on the hub first")
BASE_MODELS = (
    SMALLEST,
    BaseModel("google/gemma-3-1b-pt", 1.0, "mostly English; accept its terms on the hub first"),
    BaseModel("Qwen/Qwen3-1.7B-Base", 1.7, "119 languages"),
    BaseModel("Qwen/Qwen3-4B-Base", 4.0, "119 languages"),
    BaseModel("Qwen/Qwen3-8B-Base", 8.2, "119 languages"),
)
PACKAGED_MODEL = BaseModel(
    PACKAGED, 0.27, "gemma-3-270m in 4 bits, which an installed package carries: nothing is downloaded"
)


def suggested(machine: Machine, packaged: bool) -> BaseModel:
    """The largest base model that fits a GPU; on a CPU the smallest, for the time that training takes.

    Args:
        machine: what there is to compute with.
        packaged: whether the package that carries a model is installed.
    """
    if machine.device == "cpu":
        return PACKAGED_MODEL if packaged else SMALLEST
    fitting = [model for model in BASE_MODELS if model.needed(machine) <= machine.model_memory]
    return fitting[-1] if fitting else SMALLEST
