"""`adamergex corpus` and the paper's reference files, as a user meets them."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer.main

from adamergex.cli import main
from adamergex.data import corpus, paper_format, sources
from adamergex.data.settings import Source
from tests.conftest import byte_tokenizer
from tests.data.test_corpus import SENTENCES, prose


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line."""
    monkeypatch.setattr(sys, "argv", ["adamergex", "corpus", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main.main()
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder of text: sixty documents in one file, one of them twice."""
    (tmp_path / "text").mkdir()
    documents = [prose(i) for i in (*range(60), 7)]
    (tmp_path / "text" / "a.txt").write_text("\n\n".join(documents))
    return tmp_path / "text"


@pytest.fixture
def options(tiny_model: Path, tmp_path: Path) -> list[object]:
    return ["--language", "es", "--tokenizer", tiny_model, "--window", 64, "--output", tmp_path / "out"]


def test_a_corpus_is_what_python_builds_with_all_that_made_it(
    text: Path,
    options: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, out, err = run(capsys, monkeypatch, text, *options, "--tokens", 6400, "--completion", 5)
    assert (status, err) == (0, "")
    assert "near-duplicates  1 dropped" in out
    assert "100 of 64 tokens" in out
    assert f"corpus: {tmp_path / 'out'}" in out
    assert os.listdir(tmp_path / "text") == ["a.txt"]
    assert sorted(os.listdir(tmp_path)) == ["out", "text"]
    assert sorted(os.listdir(tmp_path / "out")) == ["examples.json", "heldout.npy", "manifest.json", "windows.npy"]
    (tmp_path / "own").mkdir()
    request = corpus.Request("es", 6400, None, 64, 0.05, 0)
    facts = corpus.build(
        sources.texts(Source(files=["text"]), tmp_path, "es", "text"), byte_tokenizer(), tmp_path / "own", request, "es"
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sha256"] == facts["sha256"]
    for name, digest in facts["sha256"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert manifest["heldout"]["windows"] == 5
    assert manifest["source"] == {"files": [str(text)]}
    digest = hashlib.sha256((text / "a.txt").read_bytes()).hexdigest()
    assert manifest["content"] == {"files": [[".txt", digest]]}
    assert manifest["licence"] is None
    assert manifest["tokenizer"]["fingerprint"].startswith("sha256 ")
    assert manifest["versions"]["rensa"]
    examples = [row for _, row in sources.rows(Source(files=["out/examples.json"]), tmp_path, "es")]
    assert len(examples) == manifest["examples"] == 100
    assert all(len(row["completion"]) == 5 for row in examples if "<" not in row["completion"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([], "expected exactly one of --tokens and --characters"),
        (["--tokens", 64, "--characters", 64], "expected exactly one of --tokens and --characters"),
        (["--tokens", 64, "--completion", 64], "--completion is 64; expected less than the window of 64"),
        (["--tokens", 64, "--language", "spanish"], "'spanish' is not a language code"),
        (["--tokens", 64, "--tokenizer", "./absent"], "base_model ./absent: no such folder"),
        (["--tokens", 10], "--tokens is 10, less than one window of 64; raise it or lower --window"),
        (["--tokens", 64_000], "the budget is 64,000 for each language; add text or set --tokens to "),
        (["--tokens", 64, "--text", "body"], "no text in column 'body'; the row has text; set --text"),
        (["--tokens", 64, "absent.txt"], "absent.txt: no such file"),
        (["--tokens", 64, "--config", "x", "absent.txt"], "config and revision belong to a dataset"),
        (["--tokens", 64, "--output", "text"], "text exists already; choose another --output, or add --overwrite"),
        (["--tokens", 64, "--output", "text", "--overwrite"], "holds more than a corpus (a.txt), and is not replaced"),
        (["--tokens", 64, "--output", "text/a.txt"], "text/a.txt is not a folder"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    text: Path,
    options: list[object],
    changes: list[object],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, monkeypatch, "text", *options, *changes)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert err.startswith("error: ")
    assert says in err
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["text", "text/a.txt"]


def test_a_data_set_that_cannot_be_had_is_named(options: list[object], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adamergex", "corpus", "nobody/nothing", *map(str, options), "--tokens", "64"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "nobody/nothing:train: does not load: " in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_package_that_is_not_known_is_named(
    options: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = run(capsys, monkeypatch, "package:nothing", *options, "--tokens", 640)
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith("error: nothing: no such packaged source; expected emoji, ")
    assert os.listdir(tmp_path) == []


def test_every_option_is_in_the_documentation_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text()
    command = typer.main.get_command(main.app).commands["corpus"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert named - {"--megabytes"} <= known
    assert known - named <= {"--overwrite", "--help"}
    assert all(f"`{key}`" in page for key in ("documents", "pool_bytes", "in_other_languages", "sha256"))


def test_a_corpus_is_replaced_only_if_that_is_said(
    text: Path,
    options: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(capsys, monkeypatch, text, *options, "--tokens", 640)[0] == 0
    before = (tmp_path / "out" / "windows.npy").read_bytes()
    assert run(capsys, monkeypatch, text, *options, "--tokens", 640, "--seed", 1)[0] == 2
    assert (tmp_path / "out" / "windows.npy").read_bytes() == before
    assert run(capsys, monkeypatch, text, *options, "--tokens", 640, "--seed", 1, "--overwrite")[0] == 0
    assert (tmp_path / "out" / "windows.npy").read_bytes() != before


def test_cleaning_is_left_out_where_that_is_said(
    text: Path,
    options: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = ["--keep-duplicates", "--keep-boilerplate", "--drop-other-languages", "--heldout", 0, "--characters", 3000]
    kept += ["--language", "iu"]
    assert run(capsys, monkeypatch, text, *options, *kept)[0] == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    settings = manifest["settings"]
    assert (settings["duplicates"], settings["boilerplate"], settings["other_languages"]) == (False, False, "drop")
    assert (manifest["characters"], manifest["near_duplicates_dropped"]) == (3000, 0)


@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent as POSIX signals")
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, options: list[object]) -> None:
    command = [sys.executable, "-m", "adamergex", "corpus", "a.txt", *map(str, options), "--tokens", "9000000"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    # A file so long that it is being read when the interrupt comes.
    with (tmp_path / "a.txt").open("w") as file:
        for i in range(40_000):
            file.write(prose(i) + "\n\n")
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".partial-*/new/windows.npy")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err.decode()
    assert err.decode() == "interrupted; nothing was written\n"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", ["th", "zh", "km", "yo"])
@pytest.mark.parametrize("completion", [1, 2, 39])
def test_cuts_never_split_a_character(code: str, completion: int, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    stream = [*tokenizer.encode(SENTENCES[code], add_special_tokens=False), 2] * 3
    windows = [stream[start : start + 40] for start in range(0, len(stream) - 39, 40)]
    assert paper_format.write(tmp_path / "a.json", windows, tokenizer, completion) == len(windows)
    written = json.loads((tmp_path / "a.json").read_text())
    rows = [row for _, row in sources.rows(Source(files=["a.json"]), tmp_path, code)]
    assert rows == written
    text = (SENTENCES[code] + "<eos>") * 3
    for window, row in zip(windows, rows, strict=True):
        together = row["prompt"] + row["completion"]
        assert "\ufffd" not in together
        assert together == tokenizer.decode(window).strip("\ufffd")
        assert together in text
        assert row["prompt"].strip()
        assert row["completion"].strip()
        # The nearest place: no more than three bytes of one character, or of two and a space, away.
        assert abs(len(row["completion"].encode().replace(b"<eos>", b"e")) - completion) <= 6


def test_a_window_that_cannot_be_cut_makes_no_example(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    one_character = tokenizer.encode("語", add_special_tokens=False)
    two = tokenizer.encode("語学", add_special_tokens=False)
    assert paper_format.write(tmp_path / "a.json", [one_character, two], tokenizer, 1) == 1
    assert json.loads((tmp_path / "a.json").read_text()) == [{"prompt": "語", "completion": "学"}]


def test_an_array_of_windows_is_written_as_it_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(70, 86, dtype=np.int32).reshape(2, 8))
    windows = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert paper_format.write(tmp_path / "a.json", windows, byte_tokenizer(), 3) == 2
    first = json.loads((tmp_path / "a.json").read_text())[0]
    assert (len(first["prompt"]), len(first["completion"])) == (5, 3)
