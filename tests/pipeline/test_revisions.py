"""Whoever changes how results are made is asked whether results change: a kind's revision is part of its results' keys.

python tests/pipeline/test_revisions.py      # record the sources as they are, once the question is answered
"""

import ast
import hashlib
import io
import json
import tokenize
from pathlib import Path

import pytest

from adamergex.pipeline.kinds import KINDS

SOURCE = Path(__file__).parents[2] / "src" / "adamergex"
RECORD = Path(__file__).with_name("revisions.json")
# The modules that make a result of each kind; what they import is followed.
MADE_BY = {
    "items": ["pipeline.stages.items"],
    "corpus": ["pipeline.stages.corpus", "training.objectives"],
    "overlap": ["pipeline.stages.checks"],
    "equal-counts": ["pipeline.stages.checks"],
    "train": ["pipeline.stages.train"],
    "given": ["pipeline.stages.given"],
    "merge": ["pipeline.stages.merge"],
    "choose": ["pipeline.stages.choose", "selection.race", "selection.rule"],
    "refine": ["pipeline.stages.refine", "pipeline.stages.train"],
    "calibrate": ["pipeline.stages.calibrate"],
    "deliver": ["pipeline.stages.deliver"],
    "predict": ["pipeline.stages.predict", "inference.engines.resident", "inference.engines.vllm"],
    "harness": ["pipeline.stages.harness"],
}
# What shows, stores and plans results, and does not make them.
APART = (
    "cli",
    "distributed",
    "errors",
    "execution",
    "pipeline",
    "progress",
    "recipes",
    "reporting",
    "selection",
    "storage",
)


def path(module: str) -> Path | None:
    """The file of a module, if it is one of ours."""
    places = (SOURCE / f"{module.replace('.', '/')}.py", SOURCE / module.replace(".", "/") / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def imports(module: str) -> set[str]:
    file = path(module)
    assert file is not None
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("adamergex"):
            base = node.module.removeprefix("adamergex").lstrip(".")
            names |= {f"{base}.{alias.name}".lstrip(".") for alias in node.names} | {base}
    return {name for name in names if name and path(name)}


def sources(kind: str) -> list[str]:
    """The modules that a result of a kind depends on."""
    modules: set[str] = set()
    todo = list(MADE_BY[kind])
    while todo:
        module = todo.pop()
        if module in modules or (module.split(".")[0] in APART and module not in MADE_BY[kind]):
            continue
        modules.add(module)
        todo += imports(module)
    return sorted(modules)


def code(text: str) -> str:
    """A module without comments, docstrings and blank lines, which change no result."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            for row in range(first.lineno - 1, first.end_lineno or first.lineno):
                lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def digest(kind: str) -> str:
    total = hashlib.sha256()
    for module in sources(kind):
        file = path(module)
        assert file is not None
        total.update(f"{module}\n{code(file.read_text('utf-8'))}\n".encode())
    return total.hexdigest()


def recorded() -> dict[str, dict[str, object]]:
    return {kind: {"revision": KINDS[kind].revision, "sources": digest(kind)} for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_sources_is_asked_about(kind: str) -> None:
    before = json.loads(RECORD.read_text())[kind]
    now = {"revision": KINDS[kind].revision, "sources": digest(kind)}
    assert now == before, (
        f"what makes results of kind {kind!r} changed since revision {before['revision']} was recorded. Does a result change "
        f"for the same parameters and inputs? If so, raise the kind's revision in {MADE_BY[kind][0]}, or finished runs keep "
        "what was made before. Then run: python tests/pipeline/test_revisions.py"
    )


def test_comments_and_docstrings_change_no_result() -> None:
    assert (
        code('"""Doc."""\n\n\ndef f():\n    """More."""\n    return "a # b"  # why\n') == 'def f():\n    return "a # b"'
    )


def test_sources_follow_imports() -> None:
    assert {"training.train", "models.target_logits", "models.likelihood"} <= set(sources("train"))
    assert {"scoring.numbers", "inference.choices"} <= set(sources("predict"))
    assert "merging.methods.ties" in sources("merge")
    assert "training.train" not in sources("merge")
    assert not [module for module in sources("predict") if module.startswith(("reporting", "training", "cli"))]


if __name__ == "__main__":
    RECORD.write_text(json.dumps(recorded(), indent=2) + "\n")
