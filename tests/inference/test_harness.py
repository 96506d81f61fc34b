"""lm-evaluation-harness on the resident model: its numbers are ours, and those of a plain computation."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adamergex.adapters.adapter import Adapter
from adamergex.errors import DataError, ModelError
from adamergex.inference.engines.harness import measure
from adamergex.inference.predict import PredictionRequest, predict
from adamergex.models.adapter_settings import Lora
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from tests.families import save

# Of one length, so that the model does not simply prefer the shortest.
CHOICES = (" ab", " x7", " q!", " cd")
# Which is right takes turns, so that whatever the model prefers, some answers are right and some are wrong.
ITEMS = [
    Item(str(i), f"{'question ' * (i % 3)}{i}:", CHOICES[i % 4], CHOICES, golds=(CHOICES[i % 4].strip(),))
    for i in range(16)
]
TASK = """
task: own_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list:
  - metric: acc
"""
WRITTEN = """
task: own_written
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs: {{until: ["never"], max_gen_toks: 8}}
metric_list:
  - metric: exact_match
"""


def as_task(items: list[Item], tmp_path: Path) -> Path:
    """A folder with items as a task of the harness."""
    rows = [{"prompt": i.prompt, "choices": i.choices, "label": i.choices.index(i.answer)} for i in items]
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "own.yaml").write_text(TASK.format(data=data, cache=tmp_path / "cache"))
    return tmp_path / "tasks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return as_task(ITEMS, tmp_path)


@pytest.fixture
def adapted(resident: ResidentModel) -> ResidentModel:
    """The model with an adapter that changes what it prefers."""
    resident.start(0)
    start = resident.adapter()
    draw = torch.Generator().manual_seed(3)
    tensors = {name: torch.randn(tensor.shape, generator=draw) for name, tensor in start.tensors.items()}
    resident.set_adapter(Adapter(start.config, tensors))
    return resident


def by_hand(resident: ResidentModel) -> list[float]:
    """Of each item whether its answer is the likeliest choice: one plain forward pass for each choice."""
    right = []
    for item in ITEMS:
        before = len(resident.tokenizer.encode(item.prompt))
        scores = []
        for choice in item.choices:
            ids = torch.tensor(resident.tokenizer.encode(item.prompt + choice))
            with torch.no_grad():
                log_p = resident.model(ids[None]).logits[0].double().log_softmax(-1)
            scores.append(float(log_p[range(before - 1, len(ids) - 1), ids[before:]].sum()))
        right.append(float(item.choices[scores.index(max(scores))] == item.answer))
    return right


def ours(resident: ResidentModel) -> list[float]:
    return [found.scores["accuracy"] for found in predict(resident, PredictionRequest(ITEMS, "choice", "en"))]


def test_accuracy_is_ours_and_that_of_a_plain_computation(
    adapted: ResidentModel, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    right = by_hand(adapted)
    assert 0 < sum(right) < len(ITEMS)
    assert ours(adapted) == right
    (row,) = measure(adapted, ["own_choice"], folder)
    accuracy = sum(right) / len(ITEMS)
    assert row == {
        "task": "own_choice",
        "metric": "acc,none",
        "value": pytest.approx(accuracy),
        # Of a mean of zeros and ones, estimated from the sample.
        "stderr": pytest.approx((accuracy * (1 - accuracy) / (len(ITEMS) - 1)) ** 0.5),
    }
    (first,) = measure(adapted, ["own_choice"], folder, limit=5, batch_size=3)
    assert first["value"] == pytest.approx(sum(right[:5]) / 5)
    assert capfd.readouterr() == ("", "")


def test_without_its_adapter_the_base_model_is_measured(adapted: ResidentModel, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    with_adapter = by_hand(adapted)
    with adapted.without_adapter():
        right = by_hand(adapted)
        (row,) = measure(adapted, ["own_choice"], folder)
    assert right != with_adapter
    assert row["value"] == pytest.approx(sum(right) / len(ITEMS))


def test_nearly_equal_choices_are_told_apart_in_bfloat16(nearly_equal: ResidentModel, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    items = [Item(str(i), f"{'question ' * (i % 3)}{i}:", "b", ("a", "b"), golds=("b",)) for i in range(24)]
    accuracy = (
        sum(found.scores["accuracy"] for found in predict(nearly_equal, PredictionRequest(items, "choice", "en"))) / 24
    )
    assert 0 < accuracy < 1
    (row,) = measure(nearly_equal, ["own_choice"], as_task(items, tmp_path))
    # Where both were equally likely the first one would have it, which is never right here.
    assert row["value"] == pytest.approx(accuracy)


def test_a_sequence_to_sequence_model_is_measured_as_one(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    save("t5", tmp_path / "t5")
    settings = Lora(r=2, alpha=4, target_modules=["q", "v"])
    resident = ResidentModel(Checkpoint("t5", tmp_path / "t5", "tiny"), "float32", settings, kind="seq2seq")
    (row,) = measure(resident, ["own_choice"], folder)
    right = []
    for item in ITEMS:
        source = resident.tokenizer(item.prompt, return_tensors="pt")["input_ids"]
        scores = []
        for choice in item.choices:
            ids = torch.tensor([resident.tokenizer.encode(choice, add_special_tokens=False)])
            with torch.no_grad():
                log_p = resident.model(input_ids=source, labels=ids).logits[0].double().log_softmax(-1)
            scores.append(float(log_p[range(ids.shape[1]), ids[0]].sum()))
        right.append(item.choices[scores.index(max(scores))] == item.answer)
    assert row["value"] == pytest.approx(sum(right) / len(ITEMS))


def test_what_is_written_is_greedy_whatever_the_checkpoint_asks_for(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    model, tasks, data = tmp_path / "model", tmp_path / "tasks", tmp_path / "rows.jsonl"
    shutil.copytree(tiny_model, model)
    asks = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "num_beams": 3}
    (model / "generation_config.json").write_text(json.dumps(asks))
    resident = ResidentModel(Checkpoint("tiny-llama", model, "tiny"), "float32", Lora(r=2))
    rows = []
    for item in ITEMS[:4]:
        ids = resident.tokenizer.encode(item.prompt)
        begin = len(ids)
        while len(ids) < begin + 8:
            with torch.no_grad():
                ids.append(int(resident.model(torch.tensor([ids])).logits[0, -1].argmax()))
        ended = [*ids[begin:], 2]
        answer = resident.tokenizer.decode(ended[: ended.index(2)], skip_special_tokens=True)
        asked = PredictionRequest([item], "text", "en", max_new_tokens=8, until="never")
        assert predict(resident, asked)[0].written == answer
        rows.append(json.dumps({"prompt": item.prompt, "answer": answer}) + "\n")
    data.write_text("".join(rows))
    tasks.mkdir()
    (tasks / "own.yaml").write_text(WRITTEN.format(data=data, cache=tmp_path / "cache"))
    (row,) = measure(resident, ["own_written"], tasks)
    assert row["value"] == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"tasks": ["own_choise"]},
            "own_choise: no such task of lm-evaluation-harness or in .*did you mean own_choice",
        ),
        ({"tasks": []}, "tasks: none is given"),
        ({"include": Path("nowhere")}, "nowhere: no such folder"),
        ({"limit": 0}, "limit: 0 is too small; expected at least 1"),
        ({"batch_size": -1}, "batch_size: -1 is too small"),
    ],
)
def test_what_cannot_be_measured_is_named(
    resident: ResidentModel, folder: Path, asked: dict[str, Any], message: str
) -> None:
    pytest.importorskip("lm_eval")
    arguments: dict[str, Any] = {"tasks": ["own_choice"], "include": folder} | asked
    with pytest.raises(DataError, match=message):
        measure(resident, **arguments)


def test_a_task_without_data_is_one_line(resident: ResidentModel, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    (folder.parent / "items.jsonl").unlink()
    with pytest.raises(DataError, match="^tasks own_choice: lm-evaluation-harness cannot measure them: .+$"):
        measure(resident, ["own_choice"], folder)


def test_an_encoder_is_refused(resident: ResidentModel) -> None:
    encoder: Any = SimpleNamespace(kind="classes", checkpoint=resident.checkpoint)
    with pytest.raises(ModelError, match="this one is an encoder"):
        measure(encoder, ["own_choice"])


def test_without_the_package_it_is_said_how_to_get_it(resident: ResidentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ModelError, match=r"run: pip install 'adamergex\[harness\]'"):
        measure(resident, ["own_choice"])
