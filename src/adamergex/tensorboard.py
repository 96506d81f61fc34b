"""Training curves for TensorBoard, where it is installed."""

from collections.abc import Callable
from pathlib import Path

from adamergex.errors import RecipeError


def writer(folder: Path) -> Callable[[int, dict[str, float]], None]:
    """What writes the values of a step, by name, into a folder that TensorBoard reads.

    Raises:
        RecipeError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RecipeError(
            ["train.tensorboard: TensorBoard is not installed; run: pip install 'adamergex[tensorboard]'"]
        ) from error
    events = SummaryWriter(str(folder), flush_secs=10)

    def write(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            events.add_scalar(name, value, step)

    return write
