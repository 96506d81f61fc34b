"""AdaMergeX: labels in one language, plain text in another → an adapter for the task in the other.

    import adamergex

    task, target, source = map(adamergex.load, ("task-en", "wiki-sw", "wiki-en"))
    adamergex.merge(task, target, source, scale=0.6).save("task-sw")

`adamergex.pipeline.run.run` does a whole recipe. Importing this package imports nothing else: `load` and `merge`
come, with torch, when they are first asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adamergex.adapters.adapter import load
    from adamergex.merging.merge import merge

__version__ = version("adamergex")
__all__ = ["__version__", "load", "merge"]


_PLACES = {"load": "adamergex.adapters.adapter", "merge": "adamergex.merging.merge"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
