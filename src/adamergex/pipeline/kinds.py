"""The table of what can be made: kind → its parameters, its function, what its result depends on."""

from adamergex.execution.stage import Kind
from adamergex.pipeline.stages import (
    calibrate,
    checks,
    choose,
    corpus,
    deliver,
    given,
    harness,
    items,
    merge,
    predict,
    refine,
    train,
)

KINDS: dict[str, Kind] = {
    "items": items.KIND,
    "corpus": corpus.KIND,
    "overlap": checks.OVERLAP,
    "equal-counts": checks.EQUAL_COUNTS,
    "train": train.KIND,
    "given": given.KIND,
    "merge": merge.KIND,
    "predict": predict.KIND,
    "choose": choose.KIND,
    "refine": refine.KIND,
    "calibrate": calibrate.KIND,
    "deliver": deliver.KIND,
    "harness": harness.KIND,
}
