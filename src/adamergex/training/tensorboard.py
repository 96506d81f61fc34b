"""Training curves for TensorBoard, where it is installed."""

from collections.abc import Callable
from pathlib import Path

from adamergex.errors import RecipeError
from adamergex.storage.files import remove


def writer(folder: Path, resumed: bool) -> Callable[[int, dict[str, float]], None]:
    """What writes the values of a step, by name, into a folder that TensorBoard reads.

    Args:
        folder: emptied unless a training goes on.
        resumed: whether it does; what was written of steps that are done again is then hidden.

    Raises:
        RecipeError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RecipeError(
            ["train.tensorboard: TensorBoard is not installed; run: pip install 'adamergex[tensorboard]'"]
        ) from error
    if not resumed:
        remove(folder)
    events: SummaryWriter | None = None

    def write(step: int, values: dict[str, float]) -> None:
        nonlocal events
        if events is None:
            events = SummaryWriter(str(folder), flush_secs=10, purge_step=step)
        for name, value in values.items():
            events.add_scalar(name, value, step)

    return write
