"""A run, an evaluation and predictions through a chat template; and what is refused before anything is made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import adamergex
from adamergex.cli.main import app
from adamergex.errors import AdaMergeXError, ModelError, RecipeError
from adamergex.models import chat
from adamergex.models.encode import sequences
from adamergex.pipeline.run import finish, planned_run
from adamergex.pipeline.stages import items
from adamergex.progress import Silent
from adamergex.recipes import loading
from adamergex.recipes.preflight import check
from tests import families, stand_in_for_vllm
from tests.chat_templates import GEMMA2, GEMMA3, QWEN3, save

TASK = {
    "prompt": "{text}:",
    "answer": "label",
    "choices": {"pos": "yes", "neg": "no"},
    "train": "data/train.{language}.jsonl",
    "test": "data/test.{language}.jsonl",
}
CHAT = {"chat": True, "system": "Say yes or no."}
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("gemma3", tmp_path_factory.mktemp("models") / "gemma3")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def made(path: Path, output: Path, *overrides: str) -> Path:
    finish(loading.load(str(path), overrides), path.parent, output)
    return output


def keys(path: Path, *overrides: str) -> dict[str, Any]:
    """What the keys of all stages depend on beside their inputs."""
    planned = planned_run(loading.load(str(path), overrides), path.parent, Silent())[2]
    return {id: stage.params.identity() for id, stage in planned.stages.items()}


def test_run_evaluation_and_prediction_ask_the_same(own_data: Write, model: Path, tmp_path: Path) -> None:
    path = own_data(base_model=str(model), task=TASK | CHAT)
    run = made(path, tmp_path / "run")
    scored = items.read(run / "data/task-es-test")
    assert {item.turns for item in scored} == {(("system", "Say yes or no."),)}
    evaluated = {row["id"]: row for row in rows(run / "predictions/es/adamergex/predictions.jsonl")}
    # Predicted from the delivered folder alone, which says how it is asked.
    said = json.loads((run / "delivered/es/adamergex.json").read_text())
    assert said["task"] | CHAT == said["task"]
    assert said["chat_template"] == chat.digest(GEMMA3)
    loaded = adamergex.predictor(run)
    test = rows(path.parent / "data/test.es.jsonl")
    answers, _ = loaded.answers([loaded._item(number, row) for number, row in enumerate(test)])
    for item, answer in zip(scored, answers, strict=True):
        assert list(answer.scores) == evaluated[item.id]["choices"]
    other = own_data(base_model=str(model), task=TASK).rename(tmp_path / "plain.yaml")
    own_data(base_model=str(model), task=TASK | CHAT)
    for name, recipe, more in (("recipe", path, ()), ("flags", other, ("--chat", "--system", "Say yes or no."))):
        arguments = ["--task", f"own={recipe}", "--language", "es", "--adapter", f"it={run / 'delivered/es'}", *more]
        done = CliRunner().invoke(app, ["evaluate", *arguments, "--output", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        found = rows(tmp_path / name / "predictions/own/es/it/predictions.jsonl")
        assert [row["choices"] for row in found] == [evaluated[item.id]["choices"] for item in scored]
        report = (tmp_path / name / "report.md").read_text()
        assert "chat template, after the system message 'Say yes or no.'" in report
    said_of_run = "asked through the base model's chat template, after the system message 'Say yes or no.'"
    assert said_of_run in (run / "report.md").read_text()
    card = (run / "merged/es/adamergex/README.md").read_text()
    assert "chat template, after the system message 'Say yes or no.'" in card
    plain = made(other, tmp_path / "without")
    without = rows(plain / "predictions/es/base/predictions.jsonl")
    assert [row["choices"] for row in without] != [
        row["choices"] for row in rows(run / "predictions/es/base/predictions.jsonl")
    ]


def test_conversations_run_to_the_same_written_answers(own_data: Write, model: Path, tmp_path: Path) -> None:
    path = own_data(
        base_model=str(model),
        task={"messages": "messages", "train": TASK["train"], "test": TASK["test"]},
        evaluate={"methods": ["base", "few-shot", "source-adapter", "adamergex"], "max_new_tokens": 8, "shots": 2},
    )
    for file in (path.parent / "data").glob("t*.jsonl"):
        said = [
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Is it?"},
                {"role": "assistant", "content": "It is."},
                {"role": "user", "content": row["text"]},
                {"role": "assistant", "content": f"{row['label']}\n\nsure"},
            ]
            for row in rows(file)
        ]
        file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in said))
    assert CliRunner().invoke(app, ["validate", str(path)]).exit_code == 0
    run = made(path, tmp_path / "run")
    evaluated = rows(run / "predictions/es/adamergex/predictions.jsonl")
    asked = [
        {"messages": row["messages"][:-1], "n": n} for n, row in enumerate(rows(path.parent / "data/test.es.jsonl"))
    ]
    inputs = tmp_path / "asked.jsonl"
    inputs.write_text("".join(json.dumps(row) + "\n" for row in asked))
    done = CliRunner().invoke(app, ["predict", str(run), str(inputs)])
    assert done.exit_code == 0, done.output
    found = rows(tmp_path / "asked.predictions.jsonl")
    assert [row["prediction"] for row in found] == [row["prediction"] for row in evaluated]
    assert [row["messages"] for row in found] == [row["messages"] for row in asked]
    inputs.write_text(json.dumps({"messages": "no"}) + "\n")
    done = CliRunner().invoke(app, ["predict", str(run), str(inputs), "--overwrite"])
    assert "asked.jsonl:1: column 'messages': expected a list" in str(done.exception)


def test_choosing_calibrating_and_refining_go_through_the_template(
    own_data: Write, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sequence of items that the model reads begins as the template does."""
    path = own_data(
        base_model=str(model),
        task=TASK | CHAT | {"dev": "data/dev.{language}.jsonl", "unlabelled": "data/unlabelled.{language}.jsonl"},
        merge={"scale": [0.3, 0.6], "selection": {"few_shot": 20}},
        refine={},
        evaluate={"methods": ["base", "few-shot", "xlt", "source-adapter", "adamergex"]},
    )
    for language in ("en", "es"):
        for name, count in (("dev", 30), ("unlabelled", 80)):
            some = [{"text": f"{name} {n} {language}", "label": ("pos", "neg")[n % 2]} for n in range(count)]
            (path.parent / f"data/{name}.{language}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in some))
    monkeypatch.setattr("adamergex.inference.answering.XLT_TOKENS", 8)
    read: list[str] = []
    plain: list[Any] = []
    encoded = chat._encoded

    def as_chat(tokenizer: Any, texts: list[str]) -> list[list[int]]:
        read.extend(texts)
        return encoded(tokenizer, texts)

    def as_text(tokenizer: Any, texts: list[str], target: bool = False) -> list[list[int]]:
        plain.append(texts)
        return [[] for _ in texts]

    monkeypatch.setattr(chat, "_encoded", as_chat)
    monkeypatch.setattr("adamergex.models.encode.text_tokens", as_text)
    run = made(path, tmp_path / "run")
    assert not plain
    assert all(text.startswith("<bos><start_of_turn>user\nSay yes or no.\n\n") for text in read)
    for stage in ("choice/es/choice.json", "calibration/es/adamergex/calibration.json", "refined/es/refine.json"):
        assert (run / stage).is_file()
    parts = ("dev 1 es:", "unlabelled 1 es:", "You should step-by-step", "model\nyes<end_of_turn>\n<start_of_turn>user")
    assert [part for part in parts if not any(part in text for text in read)] == []


def test_keys_change_with_the_template_where_chat_is_used_and_nowhere_else(
    own_data: Write, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    path = own_data(base_model=str(other), task=TASK)
    before = keys(path)
    (other / "chat_template.jinja").write_text(QWEN3)
    assert keys(path) == before
    asked = keys(path, "task.chat=true")
    # Plain text and how adapters are merged are as before; the card of a merge says how it is asked.
    changed = {id for id in asked if asked[id] != before[id]}
    kept = {"data/corpus-en", "data/corpus-es", "adapters/reference-en", "adapters/reference-es", "checks/overlap-es"}
    assert kept <= set(asked) - changed
    assert {"data/task-en-train", "adapters/task-en", "predictions/es/base", "delivered/es"} <= changed
    (other / "chat_template.jinja").write_text(GEMMA3)
    again = keys(path, "task.chat=true")
    assert {id for id in again if again[id] != asked[id]} == {
        "adapters/task-en",
        "adapters/task-es",
        "predictions/es/base",
        "predictions/es/source-adapter",
        "predictions/es/adamergex",
        "predictions/es/ceiling",
        "delivered/es",
    }
    system = keys(path, "task.chat=true", "task.system=Hm.")
    assert system["data/task-en-train"] != again["data/task-en-train"]


def refused(path: Path, *overrides: str) -> str:
    """What is said by checking a recipe, and by running it, which must be the same."""
    said = []
    recipe = loading.load(str(path), overrides)
    for attempt in (lambda: check(recipe, path.parent), lambda: planned_run(recipe, path.parent, Silent())):
        with pytest.raises(AdaMergeXError) as caught:
            attempt()
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


def test_what_a_base_model_cannot_is_refused_in_a_line(own_data: Write, model: Path, tmp_path: Path) -> None:
    def copied(name: str, template: str | None) -> str:
        shutil.copytree(model, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").unlink()
        if template is not None:
            (tmp_path / name / "chat_template.jinja").write_text(template)
        return str(tmp_path / name)

    bare = copied("bare", None)
    path = own_data(base_model=bare, task=TASK | CHAT)
    assert f"base_model {bare}: its tokenizer has no chat template" in refused(path)
    strict = copied("strict", GEMMA2)
    path = own_data(base_model=strict, task=TASK | CHAT)
    assert f"base_model {strict}: the chat template does not render: System role not supported" in refused(path)
    check(loading.load(str(path), ["task.system=null"]), path.parent)
    hostile = copied("hostile", "{{ ''.__class__.__mro__ }}")
    path = own_data(base_model=hostile, task=TASK | {"chat": True})
    assert "the chat template does not render: access to attribute '__class__'" in refused(path)
    for name, family in (("t5", "seq2seq"), ("xlm-r", "encoder")):
        folder = families.save(name, tmp_path / name)
        path = own_data(
            base_model=str(folder),
            task=TASK | {"chat": True},
            reference={"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16},
            adapter={"r": 2},
        )
        assert f"is of the {family} family. task: chat is for causal models; remove it" in refused(path)


def test_conversations_that_the_template_refuses_are_found_before_the_run(own_data: Write, model: Path) -> None:
    path = own_data(base_model=str(model), task={"messages": "messages", "train": TASK["train"]}, evaluate={})
    said = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]
    (path.parent / "data/train.en.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    check(loading.load(str(path)), path.parent)
    strict = path.parent / "strict"
    shutil.copytree(model, strict)
    (strict / "chat_template.jinja").write_text(GEMMA2)
    with pytest.raises(RecipeError, match="System role not supported"):
        check(loading.load(str(path), [f"base_model={strict}"]), path.parent)


def test_evaluate_refuses_what_it_cannot_ask(own_data: Write, model: Path, tmp_path: Path) -> None:
    path = own_data(base_model=str(model), task=TASK)

    def said(*more: str, base_model: Path = model) -> str:
        arguments = ["--task", str(path), "--language", "es", "--base-model", str(base_model)]
        done = CliRunner().invoke(app, ["evaluate", *arguments, "--output", str(tmp_path / "scores"), *more])
        assert isinstance(done.exception, AdaMergeXError)
        return str(done.exception)

    assert "system belongs to chat: true" in said("--system", "Hm.")
    assert "harness: asks without a chat template, recipe through it" in said("--chat", "--harness", "xcopa_et")
    llama = families.save("llama", tmp_path / "llama")
    assert "its tokenizer has no chat template" in said("--chat", base_model=llama)
    t5 = families.save("t5", tmp_path / "t5")
    assert "is of the seq2seq family. recipe: chat is for causal models" in said("--chat", base_model=t5)
    strict = tmp_path / "strict"
    shutil.copytree(model, strict)
    (strict / "chat_template.jinja").write_text(GEMMA2)
    assert "System role not supported" in said("--chat", "--system", "Hm.", base_model=strict)


def test_another_template_than_the_runs_is_refused(own_data: Write, model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(model, base)
    path = own_data(base_model=str(base), task=TASK | {"chat": True})
    run = made(path, tmp_path / "run")
    (base / "chat_template.jinja").write_text(QWEN3)
    with pytest.raises(ModelError, match="its chat template is not the one that the adapter's run asked through"):
        adamergex.predictor(run)
    assert adamergex.predictor(run, base_model=str(base)).key != adamergex.predictor(run, base_model=str(model)).key
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="its tokenizer has no chat template"):
        adamergex.predictor(run, base_model=str(base))


def test_validate_points_to_chat_where_there_is_a_template(own_data: Write, model: Path, tiny_model: Path) -> None:
    path = own_data(base_model=str(model), task=TASK)
    note = "note: the base model has a chat template; if it is instruction-tuned"
    assert note in CliRunner().invoke(app, ["validate", str(path)]).output
    assert note not in CliRunner().invoke(app, ["validate", str(path), "--set", "task.chat=true"]).output
    assert note not in CliRunner().invoke(app, ["validate", str(path), "--set", f"base_model={tiny_model}"]).output


@pytest.mark.parametrize("kind", ["choice", "generation"])
@pytest.mark.parametrize("asking", ["plain", "few-shot", "xlt"])
def test_vllm_reads_the_same_tokens_and_stops_at_the_same_ones(
    kind: str, asking: str, own_data: Write, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = stand_in_for_vllm.install(monkeypatch)
    monkeypatch.setattr("adamergex.inference.answering.XLT_TOKENS", 8)
    written = {key: value for key, value in TASK.items() if key != "choices"} | {"kind": "generation"}
    path = own_data(base_model=str(model), task=TASK if kind == "choice" else written)
    read: list[list[int]] = []

    def prompts(*given: Any) -> list[list[int]]:
        ids = sequences(*given)
        read.extend(ids)
        return ids

    monkeypatch.setattr("adamergex.inference.engines.vllm.sequences", prompts)
    found = {}
    for backend in ("transformers", "vllm"):
        arguments = [
            "--task",
            f"own={path}",
            "--language",
            "es",
            "--base-model",
            str(model),
            "--chat",
            "--system",
            "Hm.",
        ]
        arguments += ["--asking", asking, "--max-new-tokens", "8", "--backend", backend]
        done = CliRunner().invoke(app, ["evaluate", *arguments, "--output", str(tmp_path / backend)])
        assert done.exit_code == 0, done.output
        found[backend] = rows(tmp_path / backend / "predictions/own/es/base/predictions.jsonl")
    for one, other in zip(found["transformers"], found["vllm"], strict=True):
        assert one.pop("choices") == pytest.approx(other.pop("choices"), abs=2e-3)
        assert one == other
    assert bool(read) == (kind == "generation" or asking == "xlt")
    assert all(ids.count(1) == 1 and ids[0] == 1 for ids in read)
    assert llm.given
