"""What a user can get wrong, as a tree of exceptions.

AdaMergeXError          anything below; the command line prints it as one line and exits with status 2
├── RecipeError         the recipe, with every problem found in it
├── DataError           a task file, a data set or a corpus: missing, empty, or with a wrong row
├── ModelError          a base model that does not load, or that the adapter does not fit
├── AdapterError        an adapter folder that cannot be read or written as it stands
├── MergeError          adapters that cannot be merged with each other
├── StorageError        the run folder: no space, no permission, or in use by another run
└── NetworkError        the hub or another server does not answer

All of them survive pickling, so that one process can tell another.

Any other exception is a defect of this package.
"""


class AdaMergeXError(Exception):
    """A problem that the user can fix; its text says what, where and how."""


class RecipeError(AdaMergeXError):
    """One or more problems in a recipe, all of them found before anything ran.

    Attributes:
        problems: one line for each problem.
    """

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[type["RecipeError"], tuple[list[str]]]:
        return type(self), (self.problems,)


class DataError(AdaMergeXError):
    """Task data or a corpus is missing, empty or malformed."""


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
