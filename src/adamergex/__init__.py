"""AdaMergeX: labels in one language, plain text in another → an adapter for the task in the other.

    import adamergex

    task, target, source = map(adamergex.load, ("task-en", "wiki-sw", "wiki-en"))
    adamergex.merge(task, target, source, scale=0.6).save("task-sw")

    adamergex.run("quickstart")                      # a recipe: train, merge, evaluate, report
    adamergex.evaluate({"t0": "task-en", "merged": "task-sw"}, ["xcopa"], ["sw"], "scores")
    adamergex.predictor("runs/quickstart")(["prižgi luč v kuhinji"])

`resolve` says where the files of a base model lie that a Python package carries. Importing this package imports
nothing else: each name comes, with what it needs, when it is first asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adamergex.adapters.adapter import load
    from adamergex.inference.predictor import predictor
    from adamergex.merging.merge import merge
    from adamergex.pipeline.evaluation import evaluate
    from adamergex.pipeline.run import run
    from adamergex.recipes.recipe import Recipe
    from adamergex.storage.checkpoints import resolve

__version__ = version("adamergex")
__all__ = ["Recipe", "__version__", "evaluate", "load", "merge", "predictor", "resolve", "run"]

_PLACES = {
    "Recipe": "adamergex.recipes.recipe",
    "evaluate": "adamergex.pipeline.evaluation",
    "load": "adamergex.adapters.adapter",
    "merge": "adamergex.merging.merge",
    "predictor": "adamergex.inference.predictor",
    "resolve": "adamergex.storage.checkpoints",
    "run": "adamergex.pipeline.run",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
