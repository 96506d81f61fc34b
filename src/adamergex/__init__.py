"""AdaMergeX: labels in one language, plain text in another → an adapter for the task in the other.

Start with `adamergex.adapter` and `adamergex.merge`, or with `adamergex.pipeline.run` for a whole recipe.
"""

from importlib.metadata import version

__version__ = version("adamergex")
__all__ = ["__version__"]
