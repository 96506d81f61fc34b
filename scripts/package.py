"""Builds the wheel and the sdist, and tries the wheel where nothing else of this repository is.

    .venv/bin/python scripts/package.py        # of the environment whose packages the wheel may use

The wheel is installed in an empty environment that sees the packages of the one that this is called with, without
adamergex itself. There `doctor` runs, and a whole run of a tiny recipe on a model that is made on the spot, from another
folder. What the wheel's modules import must be declared: in its dependencies, or in an extra where the import is inside a
function. `--python` takes another interpreter, with packages of its own.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
name: tiny
base_model: model
source: en
targets: [es]
task:
  prompt: "{text}:"
  answer: label
  choices: {pos: "yes", neg: "no"}
  train: train.{language}.jsonl
  test: test.{language}.jsonl
reference: {corpus: "text.{language}.txt", tokens: 128, window: 16, positions: 5}
adapter: {r: 2, alpha: 4, target_modules: [q_proj, v_proj]}
train: {learning_rate: 1e-2, task: {epochs: 1, batch_size: 4}, reference: {epochs: 1, batch_size: 4}}
merge: {scale: 0.5}
dtype: float32
"""


def call(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command that must succeed; its standard output."""
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment,
        check=False,
    )
    if done.returncode:
        sys.exit(f"package: {' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist; the wheel is made from the sdist, so that this has all that it takes."""
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def imports(wheel: Path) -> Iterator[tuple[str, str, bool]]:
    """Module, the name of a package that it imports, and whether that is inside a function or for types alone."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                yield from _imports(name, ast.parse(archive.read(name)), False)


def _imports(name: str, tree: ast.AST, late: bool) -> Iterator[tuple[str, str, bool]]:
    for node in ast.iter_child_nodes(tree):
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [str(node.module)]
        yield from ((name, one.partition(".")[0], late) for one in found)
        types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from _imports(name, node, late or types or isinstance(node, ast.FunctionDef))


def check_declared(wheel: Path) -> None:
    """Every package that is imported is required, or by an extra where it is imported late."""
    with zipfile.ZipFile(wheel) as archive:
        (about,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        required = [
            Requirement(one) for one in Parser().parsestr(archive.read(about).decode()).get_all("Requires-Dist") or []
        ]
    core = {canonicalize_name(one.name) for one in required if one.marker is None}
    extra = {canonicalize_name(one.name) for one in required} - core
    distributions = metadata.packages_distributions()
    problems = set()
    for module, package, late in imports(wheel):
        if package in sys.stdlib_module_names or package == "adamergex":
            continue
        of = {canonicalize_name(one) for one in distributions.get(package, [package])}
        if not of & core and not (late and of & extra):
            problems.add(
                f"{module} imports {package}, which no dependency declares"
                + ("" if late else " (an extra will not do)")
            )
    if problems:
        sys.exit("package: " + "\npackage: ".join(sorted(problems)))


def environment(folder: Path, python: str | None, constraint: Path, wheel: Path) -> Path:
    """An environment with the wheel and what it needs; the path of its interpreter."""
    # Without pip, which brings a setuptools of its own; this environment's pip works in the other.
    call(python or sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    inside = folder / "bin" / "python"
    if python is None:
        # The packages of this environment, but not the links by which it finds this repository: those are .pth files, which
        # count in a folder of packages, and not in one that a .pth file names.
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        options = ["--no-deps", "--no-index", "--ignore-installed"]
    else:
        options = ["--constraint", str(constraint)]
    call(sys.executable, "-m", "pip", "--python", inside, "install", "--quiet", *options, wheel, cwd=folder)
    where = call(inside, "-c", "import adamergex; print(adamergex.__file__)", cwd=folder).strip()
    if not Path(where).is_relative_to(folder):
        sys.exit(f"package: adamergex was imported from {where}, not from the wheel")
    return inside


MODEL = """
import sys, torch, transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
alphabet = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
tokenizer.decoder = decoders.ByteLevel()
transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
).save_pretrained("model")
torch.manual_seed(0)
transformers.LlamaForCausalLM(transformers.LlamaConfig(
    vocab_size=len(alphabet), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    pad_token_id=0, bos_token_id=1, eos_token_id=2)).save_pretrained("model")
"""


def try_out(inside: Path, folder: Path) -> None:
    """`doctor`, and a run from data to an adapter that answers, in a folder of its own."""
    folder.mkdir()
    program = inside.with_name("adamergex")
    settings = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    doctor = json.loads(call(program, "doctor", "--json", cwd=folder, **settings))
    if doctor["problems"]:
        sys.exit("package: " + "\npackage: ".join(doctor["problems"]))
    call(inside, "-c", MODEL, cwd=folder, **settings)
    (folder / "recipe.yaml").write_text(RECIPE)
    for language, words in (("en", ("good", "bad")), ("es", ("bueno", "malo"))):
        for split, count in (("train", 6), ("test", 8)):
            rows = [{"text": f"{split} {i} {words[i % 2]}", "label": ("pos", "neg")[i % 2]} for i in range(count)]
            (folder / f"{split}.{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = "\n\n".join(f"{' '.join(words)} paragraph {i} of {language}" for i in range(40))
        (folder / f"text.{language}.txt").write_text(text)
    call(program, "run", "recipe.yaml", cwd=folder, **settings)
    call(program, "predict", "runs/tiny", "test.es.jsonl", cwd=folder, **settings)
    answers = (folder / "test.es.predictions.jsonl").read_text().splitlines()
    made = [folder / "runs/tiny" / name for name in ("report.html", "scores.jsonl", "delivered/es/adamergex.json")]
    if len(answers) != 8 or not all(path.is_file() for path in made):
        sys.exit(f"package: the run did not make what it should: {len(answers)} answers, {[*map(str, made)]}")


def main() -> None:
    """Build, check, install, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="another interpreter, in whose environment pip installs all that is needed")
    parser.add_argument(
        "--constraint",
        type=Path,
        default=ROOT / "constraints.txt",
        help="for pip, with --python; such as another torch",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adamergex-package-") as name:
        folder = Path(name).resolve()
        wheel, sdist = build(folder)
        check_declared(wheel)
        inside = environment(folder / "environment", given.python, given.constraint.resolve(), wheel)
        call(sys.executable, "-m", "pip", "--python", inside, "check", cwd=folder)
        try_out(inside, folder / "elsewhere")
        version = call(inside, "--version", cwd=folder).strip()
        print(
            f"package: {wheel.name} ({wheel.stat().st_size // 1024} KiB) and {sdist.name} are built; a run works on {version}"
        )


if __name__ == "__main__":
    main()
