"""One recipe on a Ray cluster of this machine, whose parts are killed: the bytes are those of one process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from adamergex.storage.record import MARK
from tests.conftest import data_in

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
LANGUAGES, TASKS = ("es", "sw", "fr", "de"), ("topics", "intents", "moods")
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
}


def lab(folder: Path, model: Path) -> Path:
    """A recipe of three tasks and four target languages, with data of its own."""
    path = data_in(folder, model)()
    data, recipe = path.parent / "data", json.loads(path.read_text())
    for language in LANGUAGES[1:]:
        text = (data / "text.es.txt").read_text()
        (data / f"text.{language}.txt").write_text(text.replace("bueno", f"bueno-{language}"))
    tasks = {}
    for name in TASKS:
        for split, language in (("train", "en"), *(("test", one) for one in LANGUAGES)):
            rows = (data / f"{split}.{'en' if language == 'en' else 'es'}.jsonl").read_text()
            (data / f"{name}.{split}.{language}.jsonl").write_text(rows.replace(split, f"{name} {language}"))
        sources = {key: f"data/{name}.{key}.{{language}}.jsonl" for key in ("train", "test")}
        tasks[name] = recipe["task"] | sources
    recipe |= {"tasks": tasks, "targets": list(LANGUAGES), "name": "lab"}
    recipe["evaluate"] = {"methods": ["base", "source-adapter", "adamergex"]}
    # Long enough to be killed within.
    recipe["train"]["reference"]["epochs"] = 40
    del recipe["task"]
    path.write_text(json.dumps(recipe))
    return path


def start(path: Path, output: Path, *more: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    command = [*before, sys.executable, "-m", "adamergex", "run", str(path), "--output", str(output), *more]
    command += ["--set", "train.checkpoint_seconds=0.05"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def ended(process: "subprocess.Popen[str]", status: int = 0) -> str:
    output, problems = process.communicate(timeout=200)
    assert process.returncode == status, problems + output[-2000:]
    return problems


def digests(output: Path) -> dict[str, str]:
    """Of the contents of all results, by the ids of their stages."""
    found = {mark.parent.relative_to(output).as_posix(): json.loads(mark.read_text()) for mark in output.rglob(MARK)}
    assert not (output / ".work").exists()
    return {id: mark["digest"] for id, mark in sorted(found.items())}


def trained(output: Path) -> bool:
    """Whether a training has left its first checkpoint, and has not ended."""
    # Folders come and go while one looks.
    with suppress(FileNotFoundError):
        return any((output / ".work/scratch").rglob("checkpoint"))
    return False


def until(holds: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    while not holds():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return lab(tmp_path_factory.mktemp("lab"), tiny_model)


@pytest.fixture(scope="module")
def alone(recipe: Path) -> tuple[dict[str, str], float]:
    """What one process makes of the recipe, and how many seconds it takes."""
    began = time.monotonic()
    ended(start(recipe, recipe.parent / "alone"))
    return digests(recipe.parent / "alone"), time.monotonic() - began


@pytest.fixture(scope="module")
def port() -> int:
    """Where an S3 server will be; all machines of the cluster know it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    about = {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}
    about["ENDPOINT_URL"] = f"http://127.0.0.1:{number}"
    ENVIRONMENT.update({f"AWS_{name}": value for name, value in about.items()})
    return number


@pytest.fixture(scope="module")
def cluster(port: int) -> Iterator[Any]:
    """A head that makes nothing, and two machines with a core each."""
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    running.nodes = [running.add_node(num_cpus=1) for _ in range(2)]
    yield running
    running.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def on(cluster: Any, *more: str) -> list[str]:
    return ["--executor", "ray", "--address", cluster.address, *more]


def test_two_processes_make_the_same(recipe: Path, alone: tuple[dict[str, str], float]) -> None:
    began = time.monotonic()
    ended(start(recipe, recipe.parent / "local", "--executor", "local:2"))
    print(f"local:2: {time.monotonic() - began:.1f} s, one process {alone[1]:.1f} s")
    assert digests(recipe.parent / "local") == alone[0]


def test_a_cluster_makes_the_same(recipe: Path, cluster: Any, alone: tuple[dict[str, str], float]) -> None:
    began = time.monotonic()
    ended(start(recipe, recipe.parent / "ray", *on(cluster)))
    print(f"Ray, two machines: {time.monotonic() - began:.1f} s, one process {alone[1]:.1f} s")
    assert digests(recipe.parent / "ray") == alone[0]


def test_a_machine_that_dies_in_a_training_changes_no_byte(
    recipe: Path, cluster: Any, alone: tuple[dict[str, str], float]
) -> None:
    output = recipe.parent / "killed"
    process = start(recipe, output, *on(cluster))
    until(lambda: trained(output), process)
    cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
    cluster.nodes.append(cluster.add_node(num_cpus=1))
    problems = ended(process)
    assert "is gone; " in problems
    assert digests(output) == alone[0]


def test_a_run_whose_first_process_is_killed_goes_on(
    recipe: Path, cluster: Any, alone: tuple[dict[str, str], float]
) -> None:
    output = recipe.parent / "again"
    process = start(recipe, output, *on(cluster))
    until(lambda: trained(output), process)
    process.kill()
    process.wait()
    ended(start(recipe, output, *on(cluster)))
    assert digests(output) == alone[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told to end", "killed"])
def test_processes_of_a_run_that_ends_end_with_it(
    recipe: Path, alone: tuple[dict[str, str], float], number: signal.Signals
) -> None:
    output = recipe.parent / f"local-{number}"
    process = start(recipe, output, "--executor", "local:2")
    until(lambda: trained(output), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 2
    process.send_signal(number)
    _, problems = process.communicate(timeout=30)
    assert process.returncode == (128 + number if number == signal.SIGTERM else -number)
    assert ("run the same command again to go on" in problems) == (number == signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    ended(start(recipe, output, "--executor", "local:2"))
    assert digests(output) == alone[0]


def test_a_machine_elsewhere_and_a_store_that_does_not_answer(
    recipe: Path, cluster: Any, port: int, alone: tuple[dict[str, str], float]
) -> None:
    """The run is in a folder that its own machine alone sees; ten seconds long there is no way to the other one."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    if (
        os.geteuid() != 0
        or shutil.which("unshare") is None
        or subprocess.run(["unshare", "-m", "true"], check=False).returncode
    ):
        pytest.skip("only root can mount")
    server = moto.ThreadedMotoServer(port=port, verbose=False)
    server.start()
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("lab")
    other = cluster.add_node(num_cpus=1)
    for node in cluster.nodes:
        cluster.remove_node(node)
    cluster.nodes = [other]
    hidden, output, kept = (recipe.parent / name for name in ("hidden", "hidden/run", "seen"))
    hidden.mkdir()
    script = (
        'mount -t tmpfs none "$0" && "$1" start --address="$2" --num-cpus=1 >/dev/null && shift 2 && "$@"; '
        f'status=$?; cp -r "{output}" "{kept}"; exit $status'
    )
    ray_command = str(Path(sys.executable).parent / "ray")
    before = ("unshare", "-m", "sh", "-c", script, str(hidden), ray_command, cluster.address)
    process = start(recipe, output, *on(cluster, "--store", "s3://lab/store"), before=before)
    until(lambda: len(s3fs.S3FileSystem(skip_instance_cache=True).find("lab/store/stages")) > 12, process)
    server.stop()
    time.sleep(10)
    server = moto.ThreadedMotoServer(port=port, verbose=False)
    server.start()
    try:
        ended(process)
    finally:
        server.stop()
    assert digests(kept) == alone[0]


def test_an_address_that_does_not_answer_is_one_line(recipe: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        problems = ended(start(recipe, recipe.parent / "none", "--executor", "ray", "--address", address), 2)
    assert problems.splitlines()[-1] == (
        f"error: --address {address} does not answer: Connection refused; `ray status` on a machine of the cluster says "
        "whether it runs"
    )
