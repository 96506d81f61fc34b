"""A run's adapter on rows without labels: as its evaluation, in chunks, cut off and resumed, with a bias or without."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adamergex
from adamergex.adapters.adapter import Adapter
from adamergex.errors import AdaMergeXError, AdapterError, DataError, ModelError, RecipeError
from adamergex.inference import delivered, usage
from adamergex.inference.answer_files import answer
from adamergex.inference.answer_jobs import added, prepared
from adamergex.inference.predictor import Predictor
from adamergex.inference.rows_calibration import Calibrating, Wish, stated
from adamergex.inference.settings import Evaluate
from adamergex.models.resident import ResidentModel
from adamergex.pipeline.run import finish
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.scoring.calibration import prior_bias
from adamergex.storage.checkpoints import Checkpoint, resolve
from adamergex.tasks.task import Task
from tests.conftest import SETTINGS

SAVED = {"labels": ["neg", "pos"], "bias": [-1.5, 1.5], "expected": [0.2, 0.8], "inputs": 60}
CHOICES = {"prompt": "{text}:", "answer": "label", "choices": {"pos": "yes", "neg": "no"}, "train": "x.jsonl"}
BY_DEFAULT = Wish()
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Write an adapter that is not the base model, with its `adamergex.json`."""
    resident = ResidentModel(Checkpoint(str(tiny_model), tiny_model, ""), "float32", SETTINGS)
    resident.start(0)
    started = resident.adapter()
    order = torch.Generator().manual_seed(3)
    tensors = {name: torch.randn(tensor.shape, generator=order) for name, tensor in started.tensors.items()}
    weights = resolve(str(tiny_model)).fingerprint

    def write(task: Mapping[str, Any] = CHOICES, calibration: Any = SAVED, **more: Any) -> Path:
        folder = tmp_path_factory.mktemp("adapter")
        Adapter(started.config, tensors).save(folder / "es")
        described = usage.described(
            Task.model_validate(task),
            Evaluate(max_new_tokens=6),
            "es",
            **{"base_model": str(tiny_model), "weights": weights, "dtype": "float32", **more},
            calibration=calibration,
        )
        usage.write(folder / "es", described)
        return folder / "es"

    return write


@pytest.fixture(scope="module")
def predictor(make: Make) -> Predictor:
    return adamergex.predictor(make())


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def texts(count: int) -> list[dict[str, Any]]:
    return [{"text": f"{'word ' * (i * 7 % 11)}{i}", "n": i} for i in range(count)]


def answered(
    predictor: Predictor, path: Path, wish: Wish = BY_DEFAULT, **more: Any
) -> tuple[list[dict[str, Any]], str]:
    """The output of one file, and what was said of it."""
    display, chunk = more.pop("display", Silent()), more.pop("chunk", 16)
    (job,) = prepared(predictor.usage, [str(path)], more.pop("output", None), wish, **more)
    said = answer(predictor, job, wish, display, chunk)
    assert job.output is not None
    return read(job.output) if job.ending == ".jsonl" else [], said


class Telling(Silent):
    """Keeps what is shown, and may end it all after some rows."""

    def __init__(self, most: int = 10**9, end: Callable[[], None] = lambda: None):
        self.steps: list[int] = []
        self.warnings: list[str] = []
        self._most, self._end = most, end

    def step(self, done: int, total: int, tokens: int = 0, loss: float | None = None) -> None:
        self.steps.append(done)
        if done >= self._most:
            self._end()

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_answers_are_those_of_the_runs_own_evaluation(own_data: Callable[..., Path]) -> None:
    path = own_data()
    data = path.parent / "data"
    scored = [{"text": f"test {'mucho ' * (i % 5)}{i}", "label": ("pos", "neg")[i % 2]} for i in range(90)]
    write(data / "test.es.jsonl", scored)
    write(data / "inputs.es.jsonl", [{"text": f"input {i}"} for i in range(60)])
    run = path.parent / "run"
    recipe = loading.load(str(path), ["task.unlabelled=data/inputs.{language}.jsonl", "train.max_length=24"])
    finish(recipe, path.parent, run)
    evaluated = read(run / "predictions/es/adamergex/predictions.jsonl")
    shortened = json.loads((run / "predictions/es/adamergex/scoring.json").read_text())["shortened"]
    bias = np.array(json.loads((run / "calibration/es/adamergex/calibration.json").read_text())["bias"])
    words = {"yes": "pos", "no": "neg"}

    loaded = adamergex.predictor(run)
    raw, said = answered(loaded, data / "test.es.jsonl", Wish(raw=True), output=str(data / "raw.jsonl"), chunk=1024)
    assert [row["prediction"] for row in raw] == [words[row["prediction"]] for row in evaluated]
    scores = np.array([row["choices"] for row in evaluated])
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([[row["p(pos)"], row["p(neg)"]] for row in raw], probabilities, atol=1e-6)
    assert shortened > 0
    assert f"{shortened} were too long" in said
    assert "no bias was added (--raw)" in said

    saved, said = answered(loaded, data / "test.es.jsonl", output=str(data / "saved.jsonl"), chunk=1024)
    assert [row["prediction"] for row in saved] == [("pos", "neg")[i] for i in (scores + bias).argmax(axis=1)]
    assert "the bias saved with the adapter was added (of 60 other inputs)" in said
    assert [{k: row[k] for k in ("text", "label")} for row in saved] == scored
    # From Python, too; the same numbers, but for their rounding.
    for (label, probability), row in zip(loaded([row["text"] for row in scored]), saved, strict=True):
        assert (label, probability) == (row["prediction"], pytest.approx(row["probability"], abs=1e-6))


def test_labels_are_never_looked_at(predictor: Predictor, tmp_path: Path) -> None:
    rows = [{"text": f"a{i}"} for i in range(120)]
    plain, _ = answered(predictor, write(tmp_path / "plain.jsonl", rows))
    labels: list[Any] = ["pos", "", None, 7, ["neg"]]
    with_labels = [row | {"label": labels[i % 5]} for i, row in enumerate(rows)]
    found, _ = answered(predictor, write(tmp_path / "labels.jsonl", with_labels))
    assert [{**row, "label": None} for row in plain] == [{**row, "label": None} for row in found]


def test_chunks_change_nothing_but_rounding(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(300))
    found = {}
    for chunk in (1024, 100, 7):
        display = Telling()
        found[chunk], said = answered(predictor, path, display=display, chunk=chunk, overwrite=True)
        assert said.startswith(f"{tmp_path / 'rows.predictions.jsonl'}: 300 rows; a bias")
        assert display.steps == sorted(display.steps)
        assert display.steps[-1] == 300
    for chunk in (100, 7):
        for row, other in zip(found[1024], found[chunk], strict=True):
            assert (row["n"], row["text"]) == (other["n"], other["text"])
            assert row["p(pos)"] == pytest.approx(other["p(pos)"], abs=2e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.jsonl", "rows.predictions.jsonl"]


class EndedError(Exception):
    pass


def stop() -> None:
    raise EndedError


@pytest.mark.parametrize("rows_done", [3, 40, 99])
def test_what_is_cut_off_goes_on_and_ends_with_the_same_bytes(
    predictor: Predictor, tmp_path: Path, rows_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "_batch_size", 4)
    path = write(tmp_path / "rows.jsonl", texts(120))
    answered(predictor, path, output=str(tmp_path / "whole.jsonl"), chunk=32)
    cut = Telling(rows_done, stop)
    with pytest.raises(EndedError):
        answered(predictor, path, output=str(tmp_path / "cut.jsonl"), chunk=32, display=cut)
    assert not (tmp_path / "cut.jsonl").exists()
    again = Telling()
    _, said = answered(predictor, path, output=str(tmp_path / "cut.jsonl"), chunk=32, display=again)
    assert again.warnings == []
    # What was done before is not done again.
    assert again.steps[0] > cut.steps[-1]
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert "120 rows" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.jsonl", "rows.jsonl", "whole.jsonl"]


def test_a_killed_process_goes_on_too(predictor: Predictor, make: Make, tmp_path: Path) -> None:
    path, folder = write(tmp_path / "rows.jsonl", texts(120)), make()
    code = f"""
import os, adamergex
from tests.inference.test_predictor import Telling, answered
from pathlib import Path
loaded = adamergex.predictor({str(folder)!r})
answered(loaded, Path({str(path)!r}), chunk=32, display=Telling(70, lambda: os._exit(9)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=os.environ, check=False)
    assert done.returncode == 9
    again = Telling()
    answered(adamergex.predictor(folder), path, chunk=32, display=again)
    assert again.steps[0] > 64
    answered(predictor, path, output=str(tmp_path / "whole.jsonl"), chunk=32)
    assert (tmp_path / "rows.predictions.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        # A digit more is found, too.
        ("0.json", lambda content: content.replace(b", -", b", -1", 1)),
        ("0.json", lambda content: content[:-3]),
        ("0.json", lambda content: b"\xff\xfe" + content),
        ("1.jsonl", lambda content: b"[1, 2]\n" + content),
        ("1.jsonl", lambda content: content.replace(b'"prediction"', b'"predicted"', 1)),
        ("key", lambda content: b"of something else"),
    ],
)
def test_a_damaged_journal_is_dropped_with_a_line(
    predictor: Predictor,
    tmp_path: Path,
    name: str,
    damage: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictor, "_batch_size", 4)
    path = write(tmp_path / "rows.jsonl", texts(60))
    with pytest.raises(EndedError):
        answered(predictor, path, chunk=20, display=Telling(30, stop))
    part = tmp_path / ".rows.predictions.jsonl.journal" / name
    part.write_bytes(damage(part.read_bytes()))
    again = Telling()
    answered(predictor, path, chunk=20, display=again)
    assert len(again.warnings) == 1
    assert "drop" in again.warnings[0]
    answered(predictor, path, output=str(tmp_path / "whole.jsonl"), chunk=20)
    assert (tmp_path / "rows.predictions.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_other_rows_or_another_adapter_begin_anew(make: Make, predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(60))
    with pytest.raises(EndedError):
        answered(predictor, path, chunk=20, display=Telling(30, stop))
    other = adamergex.predictor(make(CHOICES | {"prompt": "{text}?"}))
    display = Telling()
    answered(other, path, chunk=20, display=display)
    assert display.steps[0] <= 20
    assert "of other rows, settings or another adapter" in display.warnings[0]


def test_the_bias_is_that_of_the_rows_and_of_the_shares(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(130))
    raw, _ = answered(predictor, path, Wish(raw=True), output=str(tmp_path / "raw.jsonl"))
    log_scores = np.log([[row["p(pos)"], row["p(neg)"]] for row in raw])
    for wish, prior in ((Wish(), [0.8, 0.2]), (Wish(shares={"pos": 0.35, "neg": 0.65}), [0.35, 0.65])):
        found, said = answered(predictor, path, wish, overwrite=True)
        probabilities = np.array([[row["p(pos)"], row["p(neg)"]] for row in found])
        np.testing.assert_allclose(probabilities.mean(axis=0), prior, atol=1e-5)
        biased = log_scores + prior_bias(log_scores, np.array(prior))
        np.testing.assert_array_equal(biased.argmax(axis=1), [("pos", "neg").index(row["prediction"]) for row in found])
        assert "estimated on these rows, without labels" in said
        assert f"pos {prior[0]:.0%}" in said
    saved, said = answered(predictor, path, Wish(calibrate=False), overwrite=True)
    # In the order of the choices, whatever that of the saved labels.
    by_saved = log_scores + np.array([1.5, -1.5])
    assert [row["prediction"] for row in saved] == [("pos", "neg")[i] for i in by_saved.argmax(axis=1)]
    assert "saved with the adapter was added" in said


@pytest.mark.parametrize(("count", "anew"), [(49, False), (99, False), (100, True)])
def test_from_a_hundred_rows_on_they_are_calibrated_on_themselves(predictor: Predictor, count: int, anew: bool) -> None:
    assert Calibrating(predictor.usage, Wish(), count).on_rows == anew
    if count >= 50:
        assert Calibrating(predictor.usage, Wish(calibrate=True), count).on_rows
    else:
        with pytest.raises(DataError, match="49 rows are too few to calibrate on; it takes 50"):
            assert Calibrating(predictor.usage, Wish(calibrate=True), count).on_rows


def test_a_million_rows_are_sampled_evenly(predictor: Predictor) -> None:
    sample = Calibrating(predictor.usage, Wish(), 1_000_000).sample()
    assert (len(sample), sample[0], sample[-1]) == (20_000, 0, 999_999)
    assert set(np.diff(sample)) == {50, 51} or set(np.diff(sample)) == {50}
    assert Calibrating(predictor.usage, Wish(), 120).sample().tolist() == list(range(120))


def test_adapters_of_batch_calibration_and_of_none(make: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(110))
    batch = adamergex.predictor(make(calibration={"labels": ["pos", "neg"], "bias": [1, -1], "method": "batch"}))
    found, said = answered(batch, path, overwrite=True)
    raw, _ = answered(batch, path, Wish(raw=True), overwrite=True)
    shares = np.mean([row["p(pos)"] for row in raw])
    # The bias is minus the log of the mean distribution.
    expected = [row["p(pos)"] / shares / (row["p(pos)"] / shares + row["p(neg)"] / (1 - shares)) for row in raw]
    np.testing.assert_allclose([row["p(pos)"] for row in found], expected, atol=1e-4)
    assert "(batch calibration)" in said
    without = adamergex.predictor(make(calibration=None))
    found, said = answered(without, path, overwrite=True)
    assert found == raw
    assert "none was saved with the adapter" in said
    with pytest.raises(RecipeError, match="no label shares were saved"):
        prepared(without.usage, [str(path)], None, Wish(calibrate=True), overwrite=True)


def test_written_answers_have_no_probabilities(make: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(110))
    task = {"prompt": "{text}:", "answer": "label", "train": "x.jsonl"}
    for kind, columns in (("text", ["prediction"]), ("number", ["prediction", "readable"])):
        loaded = adamergex.predictor(make(task | {"kind": kind}, None))
        assert loaded.labels == ()
        found, said = answered(loaded, path, overwrite=True)
        assert list(found[0])[2:] == columns
        assert "answers are written" in said
        assert [(row["prediction"], None) for row in found] == loaded(path_texts(path))
        if kind == "number":
            assert all(row["readable"] == bool(row["prediction"]) for row in found)


def path_texts(path: Path) -> list[str]:
    return [row["text"] for row in read(path)]


def test_rows_of_several_columns_are_dictionaries(make: Make) -> None:
    loaded = adamergex.predictor(make(CHOICES | {"prompt": "{premise} {hypothesis}:"}))
    pairs = [{"premise": f"a{i}", "hypothesis": "b", "label": "x"} for i in range(3)]
    assert [label for label, _ in loaded(pairs)] == [
        label for label, _ in adamergex.predictor(make())([f"a{i} b" for i in range(3)])
    ]
    with pytest.raises(DataError, match=r"rows\[0\]: is a text, but the prompt has the columns premise, hypothesis"):
        loaded(["a b"])
    with pytest.raises(DataError, match=r"rows\[1\]: no column 'hypothesis'; the row has premise"):
        loaded([pairs[0], {"premise": "a"}])
    assert loaded.labels == ("pos", "neg")
    assert loaded([]) == []
    for single in ("a b", pairs[0]):
        with pytest.raises(DataError, match="expected a list of rows, got a single"):
            loaded(single)


def test_choices_of_a_rows_own_columns_are_not_calibrated(make: Make, tmp_path: Path) -> None:
    task = CHOICES | {"choices": {"0": "{first}", "1": "{second}"}}
    loaded = adamergex.predictor(make(task, None))
    rows = [{"text": f"a{i}", "first": f"x{i}", "second": f"y{i} and more"} for i in range(120)]
    path = write(tmp_path / "rows.jsonl", rows)
    found, said = answered(loaded, path)
    assert {row["prediction"] for row in found} <= {"0", "1"}
    assert found[0].keys() == {"text", "first", "second", "prediction", "probability", "p(0)", "p(1)"}
    assert "no bias was added" in said
    with pytest.raises(RecipeError, match="--shares: is for labels that all rows share"):
        prepared(loaded.usage, [str(path)], None, Wish(shares={"0": 1.0}), overwrite=True)


def test_an_encoder_answers_without_labels(tmp_path: Path) -> None:
    from tests.families import save

    model = save("bert", tmp_path / "bert")
    resident = ResidentModel(
        Checkpoint(str(model), model, ""), "float32", encoder_settings(), kind="classes", classes=2
    )
    resident.start(0)
    resident.adapter().save(tmp_path / "adapter")
    task = Task.model_validate(CHOICES | {"choices": ["pos", "neg"]})
    described = usage.described(
        task, Evaluate(), "es", base_model=str(model), weights=resolve(str(model)).fingerprint, dtype="float32"
    )
    usage.write(tmp_path / "adapter", described)
    loaded = adamergex.predictor(tmp_path / "adapter")
    inputs = [row["text"] for row in texts(9)]
    with torch.no_grad():
        for text, (label, probability) in zip(inputs, loaded(inputs), strict=True):
            ids = torch.tensor([resident.tokenizer(f"{text}:")["input_ids"]])
            own = resident.model(ids).logits[0].softmax(-1)
            assert label == ("pos", "neg")[int(own.argmax())]
            assert probability == pytest.approx(float(own.max()), abs=1e-4)


def encoder_settings() -> Any:
    return SETTINGS.model_copy(update={"target_modules": ["query", "value"]})


def test_a_head_has_the_order_of_the_task_in_every_language() -> None:
    wordings = {"es": {"prompt": "{text}:", "choices": {"neg": "no", "pos": "sí"}}}
    task = Task.model_validate(CHOICES | {"wordings": wordings})
    described = usage.described(task, Evaluate(), "es", base_model="x", weights="w", dtype="float32")
    assert list(described["task"]["choices"].items()) == [("pos", "sí"), ("neg", "no")]


def test_how_numbers_are_written_goes_with_an_adapter() -> None:
    task = Task.model_validate(
        {"prompt": "{text}:", "answer": "n", "kind": "number", "answer_format": "canonical", "train": "a.jsonl"}
    )
    described = usage.described(task, Evaluate(), "es", base_model="x", weights="w", dtype="float32")
    assert usage.Usage.model_validate(described).task.answer_format == "canonical"


def formats(tmp_path: Path) -> dict[str, Path]:
    """The same three rows, in files as people have them."""
    rows = [
        {"text": 'He said "yes",\nthen left', "n": "1"},
        {"text": "línea; con, todo", "n": "2"},
        {"text": "tab\there", "n": "3"},
    ]
    paths = {name: tmp_path / f"rows{name}" for name in (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".jsonl.gz")}
    for name, separator in ((".csv", ","), (".tsv", "\t")):
        with paths[name].open("w", encoding="utf-8-sig" if name == ".csv" else "utf-8", newline="") as file:
            table = csv.DictWriter(file, ["text", "n"], delimiter=separator)
            table.writeheader()
            table.writerows(rows)
    write(paths[".jsonl"], rows)
    paths[".json"].write_text(json.dumps(rows))
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    paths[".jsonl.gz"].write_bytes(gzip.compress(paths[".jsonl"].read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), paths[".parquet"])
    return paths


@pytest.mark.parametrize("to", ["same", ".csv", ".jsonl", ".parquet"])
def test_every_format_comes_back_as_it_was(predictor: Predictor, tmp_path: Path, to: str) -> None:
    from adamergex.data import readers

    for name, path in formats(tmp_path).items():
        output = tmp_path / f"rows.predictions{name}" if to == "same" else tmp_path / f"from{name}{to}"
        answered(predictor, path, output=None if to == "same" else str(output))
        before, after = ([row for _, row in readers.rows(one)] for one in (path, output))
        assert [{key: row[key] for key in ("text", "n")} for row in after] == before
        assert list(after[0]) == ["text", "n", *added(predictor.usage)]
        probabilities = [float(row["p(pos)"]) for row in after]
        python = predictor([row["text"] for row in before])
        assert [row["prediction"] for row in after] == [label for label, _ in python]
        assert probabilities == pytest.approx([p if label == "pos" else 1 - p for label, p in python], abs=1e-6)  # type: ignore[operator]
        # A byte order mark is kept: whoever wrote it needs it.
        if output.suffix == ".csv":
            assert output.read_bytes().startswith(b"\xef\xbb\xbf") == (name == ".csv")


def test_plain_text_is_paragraphs_and_becomes_json_lines(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("one\n\ntwo\nand more\n")
    display = Telling()
    found, said = answered(predictor, path, display=display)
    assert display.warnings == []
    assert [row["text"] for row in found] == ["one", "two\nand more"]
    assert f"{tmp_path / 'rows.predictions.jsonl'}: 2 rows" in said
    path.write_text("one\ntwo\n")
    answered(predictor, path, display=display, overwrite=True)
    assert display.warnings == [f"{path} is a single paragraph, and so a single row; part rows by empty lines"]


def test_parquet_keeps_its_types(predictor: Predictor, tmp_path: Path) -> None:
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    when = [datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), None]
    table = pa.table(
        {
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "when": pa.array(when, pa.timestamp("ms", "UTC")),
            "small": pa.array([1, None], pa.int8()),
            "list": pa.array([[1.5], []], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    answered(predictor, tmp_path / "rows.parquet")
    found = pq.read_table(tmp_path / "rows.predictions.parquet")
    assert found.select(table.column_names).equals(table)
    assert found.schema.field("p(pos)").type == pa.float64()
    answered(predictor, tmp_path / "rows.parquet", output=str(tmp_path / "rows.jsonl"))
    assert read(tmp_path / "rows.jsonl")[0]["when"] == "2024-01-02 00:00:00+00:00"


def test_rows_of_different_columns_are_one_table(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"text": "a"}, {"text": "b", "n": 1}, {"n": 2.5, "text": "c"}])
    for ending in (".csv", ".parquet"):
        answered(predictor, path, output=str(tmp_path / f"out{ending}"), chunk=1)
    from adamergex.data import readers

    assert [row["n"] for _, row in readers.rows(tmp_path / "out.csv")] == ["", "1", "2.5"]
    assert [row["n"] for _, row in readers.rows(tmp_path / "out.parquet")] == [None, 1.0, 2.5]
    mixed = write(tmp_path / "mixed.jsonl", [{"text": "a", "n": "x"}, {"text": "b", "n": [1]}])
    with pytest.raises(DataError, match="Parquet, whose columns have one type each"):
        prepared(predictor.usage, [str(mixed)], str(tmp_path / "mixed.parquet"), Wish())


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        ('{"text": "a", "prediction": 1}\n', "x.jsonl", r"x\.jsonl:1: has a column 'prediction' already.*rename"),
        ('{"text": "a"}\n{"text": "a", "p(neg)": 1}\n', "x.jsonl", r"x\.jsonl:2: has a column 'p\(neg\)' already"),
        ('{"text": "a"}\n{"txt": "a"}\n', "x.jsonl", r"x\.jsonl:2: no column 'text'; the row has txt"),
        ("txt;n\na;1\n", "x.csv", r"x\.csv:2: no column 'text'; the row has txt, n; say .* --columns text=NAME"),
        ("text,n\na,1\na,1,2\n", "x.csv", r"x\.csv:3: expected 2 columns"),
        ("", "x.jsonl", r"x\.jsonl: holds nothing"),
        ("[]", "x.jsonl", r"x\.jsonl: holds no rows"),
        ("nothing", "x.docx", r"x\.docx: unknown format \.docx; expected \.jsonl"),
        ('{"text": null}\n', "x.jsonl", r"x\.jsonl:1: column 'text' is null"),
        ('{"text": "a"}\n{"text": " "}\n', "x.jsonl", r"x\.jsonl:2: column 'text' is empty"),
        (
            '{"text": ["a"]}\n{"text": NaN}\n',
            "x.jsonl",
            r"x\.jsonl:1: .* holds a list.*\n.*x\.jsonl:2: .* is nan, which",
        ),
        (
            '{"text": 1}\n' + '{"text": ""}\n' * 7,
            "x.jsonl",
            r":6: .*\n.*x\.jsonl: 7 of 8 rows are wrong, 5 of which are shown$",
        ),
    ],
)
def test_bad_rows_are_found_before_anything_is_answered(
    predictor: Predictor, tmp_path: Path, content: str, name: str, says: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AdaMergeXError, match=says):
        prepared(predictor.usage, [str(tmp_path / name)], None, Wish())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_outputs_replace_nothing_unasked(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(3))
    (tmp_path / "rows.predictions.jsonl").write_text("mine")

    def jobs(output: str | None = None, **more: Any) -> Any:
        return prepared(predictor.usage, [str(path)], output, Wish(), **more)

    with pytest.raises(RecipeError, match="exists already; give another --output, or replace it with --overwrite"):
        jobs()
    with pytest.raises(RecipeError, match="is the file of the rows"):
        jobs(str(path), overwrite=True)
    with pytest.raises(RecipeError, match="unknown format; expected one of"):
        jobs(str(tmp_path / "x.xlsx"))
    with pytest.raises(RecipeError, match="are for one file"):
        prepared(predictor.usage, [str(path), str(path) + "2"], "x.csv", Wish())
    assert (tmp_path / "rows.predictions.jsonl").read_text() == "mine"
    # Somebody may write it while rows are being answered.
    (job,) = jobs(str(tmp_path / "new.jsonl"))
    assert job.output is not None
    job.output.write_text("mine")
    with pytest.raises(RecipeError, match="exists already"):
        answer(predictor, job, Wish(), Silent())
    assert job.output.read_text() == "mine"
    answered(predictor, path, overwrite=True, limit=2)
    assert len(read(tmp_path / "rows.predictions.jsonl")) == 2


def test_rows_that_change_while_they_are_answered_are_not_written(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", texts(40))

    def change() -> None:
        write(path, texts(41))

    with pytest.raises(DataError, match=r"rows\.jsonl: was changed while it was read"):
        answered(predictor, path, display=Telling(30, change))
    assert not (tmp_path / "rows.predictions.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pos", "--shares pos: expected LABEL=SHARE"),
        ("pos=much", "--shares pos=much: expected LABEL=SHARE"),
        ("poss=0.5,neg=0.5", "unknown label 'poss'; the adapter has pos, neg"),
        ("pos=0.5,neg=0.6", r"the shares add up to 1\.1; expected 1"),
        ("pos=0.5,pos=0.5", "'pos' is stated twice"),
        ("pos=-1,neg=2", "at least 0"),
        ("pos=nan,neg=1", "at least 0"),
        ("pos=0,neg=0", "all counts are 0"),
    ],
)
def test_shares_are_shares(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        stated(text, ("pos", "neg"))
    assert stated("pos=0.3, neg=0.7", ("pos", "neg")) == {"pos": 0.3, "neg": 0.7}
    assert stated("pos=7", ("pos", "neg")) == {"pos": 7}


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (Wish(raw=True, shares={"pos": 1}), "--shares has no effect with --raw"),
        (Wish(raw=True, calibrate=True), "--calibrate has no effect with --raw"),
        (Wish(calibrate=False, shares={"pos": 1}), "--shares has no effect with --no-calibrate"),
    ],
)
def test_options_that_exclude_each_other_are_refused(predictor: Predictor, wish: Wish, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        wish.check(predictor.usage, again=True)
    with pytest.raises(RecipeError, match="standard input cannot be read twice"):
        Wish(calibrate=True).check(predictor.usage, again=False)


def test_a_folder_says_what_it_lacks(
    make: Make, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make()
    (folder / "adamergex.json").unlink()
    with pytest.raises(AdapterError, match=r"has no adamergex\.json.*the folders in a run's delivered/ have it"):
        adamergex.predictor(folder)
    with pytest.raises(AdapterError, match="no such folder"):
        adamergex.predictor(tmp_path / "absent")
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(AdapterError, match="the run has no adapters in delivered/ yet"):
        adamergex.predictor(tmp_path)
    (tmp_path / "delivered").mkdir()
    for language in ("es", "sw"):
        make().rename(tmp_path / "delivered" / language)
    with pytest.raises(RecipeError, match="has adapters for es, sw; choose one with --language"):
        adamergex.predictor(tmp_path)
    with pytest.raises(AdapterError, match="has no adapter for 'fr'; it has es, sw"):
        adamergex.predictor(tmp_path, language="fr")
    assert delivered.find(tmp_path, "spa") == tmp_path / "delivered/es"
    # Scores are written last, and go before anything is made anew.
    unfinished = (
        f"warning: {tmp_path}: its run is not finished, what it delivers may be of before; run the recipe to the end\n"
    )
    assert capsys.readouterr().err.endswith(unfinished)
    (tmp_path / "scores.jsonl").touch()
    assert delivered.find(tmp_path, "spa") == tmp_path / "delivered/es"
    assert capsys.readouterr().err == ""
    # Its recipe has other tasks now, of which nothing is there.
    (tmp_path / "recipe.yaml").write_text("targets: [es, sw]\ntasks: {topics: {}}\n")
    with pytest.raises(AdapterError, match="the run has no adapters in delivered/ yet"):
        adamergex.predictor(tmp_path, language="es")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, r"format: Input should be 1"),
        ({"task": {"kind": "choice", "prompt": "{text}"}}, "choices and kind: choice belong together"),
        ({"task": {"kind": "text", "prompt": "text"}}, r"task\.prompt: .*expected at least one \{column\}"),
        ({"calibration": SAVED | {"labels": ["a", "b"]}}, r"calibration\.labels are not those of task\.choices"),
        ({"calibration": SAVED | {"bias": [1.0]}}, "different numbers of values"),
        ({"calibration": SAVED | {"bias": [1.0, "NaN"]}}, "finite"),
        (None, "Invalid JSON"),
    ],
)
def test_a_damaged_description_is_one_line(make: Make, change: dict[str, Any] | None, says: str) -> None:
    path = make() / "adamergex.json"
    content = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps(content | change))
    with pytest.raises(AdapterError, match=says) as caught:
        usage.read(path.parent)
    assert "\n" not in str(caught.value)


def test_other_weights_than_the_runs_are_refused_unless_they_are_named(make: Make, tiny_model: Path) -> None:
    folder = make(weights="sha256 0123")
    with pytest.raises(ModelError, match="those of the adapter's run were sha256 0123; name the model"):
        adamergex.predictor(folder)
    assert adamergex.predictor(folder, base_model=str(tiny_model)).labels == ("pos", "neg")
    # A commit cannot be compared with a hash.
    assert adamergex.predictor(make(weights="commit abc")).labels == ("pos", "neg")
