"""The table of what can be made: kind → its parameters, its function, what its result depends on."""

from adamergex.execution.stage import Kind
from adamergex.pipeline.stages import checks, corpus, harness, items, merge, predict, train

KINDS: dict[str, Kind] = {
    "items": items.KIND,
    "corpus": corpus.KIND,
    "overlap": checks.OVERLAP,
    "equal-counts": checks.EQUAL_COUNTS,
    "train": train.KIND,
    "merge": merge.KIND,
    "predict": predict.KIND,
    "harness": harness.KIND,
}
