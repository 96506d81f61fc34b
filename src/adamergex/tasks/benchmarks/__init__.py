"""Benchmarks, one module each: who made them, under which licence, how a row is read and asked."""

from adamergex.errors import DataError
from adamergex.storage.yaml_model import did_you_mean
from adamergex.tasks.benchmarks import copa, gsm8k, masakhanews, mgsm, mnli, sib200, squad, xcopa, xlsum, xnli, xquad
from adamergex.tasks.benchmarks.benchmark import Benchmark

_MODULES = (copa, gsm8k, masakhanews, mgsm, mnli, sib200, squad, xcopa, xlsum, xnli, xquad)
BENCHMARKS: dict[str, Benchmark] = {module.BENCHMARK.name: module.BENCHMARK for module in _MODULES}


def find(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        DataError: there is none of that name.
    """
    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise DataError(f"{name}: no such benchmark; expected one of {known}{did_you_mean(name, BENCHMARKS)}")
    return BENCHMARKS[name]
