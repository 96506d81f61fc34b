"""What a user can get wrong, as a tree of exceptions.

AdaMergeXError          anything below; the command line prints a line for each problem and exits with status 2
├── RecipeError         the recipe, with every problem found in it
├── DataError           a task file, a data set or a corpus: missing, empty, or with a wrong row
├── ModelError          a base model that does not load, or that the adapter does not fit
├── AdapterError        an adapter folder that cannot be read or written as it stands
├── MergeError          adapters that cannot be merged with each other
├── StorageError        the run folder: no space, no permission, or in use by another run
├── NetworkError        the hub or another server does not answer
├── ExecutorError       the workers that make stages cannot be had, or differ
└── IncompleteError     some stages failed and the others were made; the command line exits with status 1

All of them survive pickling, so that one process can tell another.

Any other exception is a defect of this package.
"""

# White space but spaces and line ends, as escapes: a column's name may hold a tab where another delimiter is meant.
_SPACES = {ord(space): repr(space)[1:-1] for space in "\t\r\v\f"}


class AdaMergeXError(Exception):
    """Problems that the user can fix; its text says what, where and how, a line for each."""

    def __init__(self, *problems: str):
        super().__init__(*problems)

    @property
    def problems(self) -> list[str]:
        """One line for each problem, in which tabs can be seen."""
        return [problem.translate(_SPACES) for problem in self.args]

    def __str__(self) -> str:
        return "\n".join(self.problems)


class RecipeError(AdaMergeXError):
    """One or more problems in a recipe, all of them found before anything ran."""

    def __init__(self, problems: list[str]):
        super().__init__(*problems)

    def __reduce__(self) -> tuple[type["RecipeError"], tuple[list[str]]]:
        return type(self), (list(self.args),)


class DataError(AdaMergeXError):
    """Task data or a corpus is missing, empty or malformed; of wrong rows the first ones, and how many there are.

    Attributes:
        rows: how many rows it is about.
        unread: how many were looked at, these among them, that whoever reads the file has not been given.
    """

    rows, unread = 1, 0


class ModelError(AdaMergeXError):
    """The base model does not load, or has no module that the adapter names."""


class AdapterError(AdaMergeXError):
    """An adapter folder is missing, damaged or of a kind that is not supported."""


class MergeError(AdaMergeXError):
    """Adapters differ in what they were trained on or in shape."""


class StorageError(AdaMergeXError):
    """The run folder cannot be written."""


class NetworkError(AdaMergeXError):
    """The hub or another server does not answer; what was done stays done."""


class ExecutorError(AdaMergeXError):
    """An executor is unknown, does not answer, or has workers that differ from this process."""


class IncompleteError(AdaMergeXError):
    """Some stages failed, and those that need nothing of them were made all the same.

    Attributes:
        missing: the ids of the stages that failed, and of those that wait for them.
    """

    missing: tuple[str, ...] = ()
