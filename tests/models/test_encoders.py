"""Encoders: what their heads read, what they are not asked, and how long a sequence they take."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from typer.testing import CliRunner, Result

from adamergex.adapters import adapter
from adamergex.cli.main import app
from adamergex.data.settings import Source
from adamergex.errors import ModelError, RecipeError
from adamergex.inference.predict import PredictionRequest, predict
from adamergex.models.adapter_settings import Lora, Prefix
from adamergex.models.encode import classified, fitted, for_training
from adamergex.models.encoded import EncodedExample
from adamergex.models.families import has_head
from adamergex.models.limits import positions
from adamergex.models.resident import ResidentModel
from adamergex.models.target_logits import target_logits
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item, read_items
from adamergex.tasks.presets import filled
from adamergex.tasks.task import Task
from adamergex.training.settings import Schedule, Train
from adamergex.training.train import train
from tests import families
from tests.conftest import byte_tokenizer, save_model

LABELS = ("entailment", "neutral", "contradiction")
SAID = ("aaaa", "mmmm", "zzzz")


def command(*arguments: str) -> Result:
    done = CliRunner().invoke(app, arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("encoders")
    return lambda name: root / name if (root / name).is_dir() else families.save(name, root / name)


def bench_of(folder: Path, outputs: int, settings: Any = None) -> ResidentModel:
    checkpoint = Checkpoint("x", folder, "")
    return ResidentModel(checkpoint, "float32", settings or Lora(r=4), kind="classes", classes=outputs)


def xnli(folder: Path, count: int = 24) -> tuple[Task, list[Item]]:
    """Pairs as XNLI has them, whose label follows from the hypothesis alone."""
    rows = [f"premise {chr(100 + i * 7 % 17)}\t{SAID[i % 3]} {i}\t{LABELS[i % 3]}\n" for i in range(count)]
    (folder / "dev-es.tsv").write_text("".join(rows))
    task = Task(**filled({"benchmark": "xnli", "data": str(folder)}))
    assert task.dev is not None
    return task, read_items(task, task.dev, folder, "es")


def xcopa(folder: Path, count: int = 24) -> tuple[Task, list[Item]]:
    """Items as XCOPA has them, whose right choice can be told by its words alone."""
    rows = [
        {
            "premise": f"Ocurrió {chr(100 + i * 7 % 17)}.",
            "choice1": ("zzzz", "aaaa")[i * 5 // 3 % 2] + f" {i}.",
            "choice2": ("aaaa", "zzzz")[i * 5 // 3 % 2] + f" {i + 1}.",
            "question": ("cause", "effect")[i % 2],
            "label": i * 5 // 3 % 2,
            "idx": i,
        }
        for i in range(count)
    ]
    (folder / "data/it").mkdir(parents=True)
    (folder / "data/it/val.it.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Task(**filled({"benchmark": "xcopa", "data": str(folder)}))
    assert task.dev is not None
    return task, read_items(task, task.dev, folder, "it")


def learned(resident: ResidentModel, items: list[Item]) -> None:
    """Train the resident's adapter on items, and leave it on the model."""
    resident.start(0)
    examples, _ = for_training(resident.tokenizer, items, "classes")
    found = train(
        resident,
        lambda epoch: examples,
        Train(),
        Schedule(epochs=12, batch_size=8),
        0,
        learning_rate=1e-2,
        heldout=None,
    )
    resident.set_adapter(found.adapter)


def accuracy(resident: ResidentModel, items: list[Item]) -> float:
    found = predict(resident, PredictionRequest(items, "choice", "es", batch_size=16))
    return sum(prediction.scores["accuracy"] for prediction in found) / len(found)


@pytest.mark.parametrize("name", ["bert", "xlm-r"])
def test_the_hypothesis_of_xnli_is_read_and_decides(name: str, encoder: Callable[[str], Path], tmp_path: Path) -> None:
    task, items = xnli(tmp_path)
    assert task.outputs == 3
    resident = bench_of(encoder(name), task.outputs)
    learned(resident, items)
    assert accuracy(resident, items) > 0.9
    # The control: each premise and label, with the hypothesis of the item after it, which has another label.
    others = [
        replace(item, text_pair=other.text_pair) for item, other in zip(items, items[1:] + items[:1], strict=True)
    ]
    assert accuracy(resident, others) < 0.2
    # And what does not matter does not: premises may be swapped.
    others = [replace(item, prompt=other.prompt) for item, other in zip(items, items[1:] + items[:1], strict=True)]
    assert accuracy(resident, others) > 0.9


@pytest.mark.parametrize("name", ["bert", "xlm-r"])
def test_the_choices_of_xcopa_are_read_and_decide(name: str, encoder: Callable[[str], Path], tmp_path: Path) -> None:
    task, items = xcopa(tmp_path)
    assert task.outputs == 1
    resident = bench_of(encoder(name), task.outputs)
    # All choices of an item together are longer than the model reads, each is not.
    resident._positions = 50
    assert max(example.size for example in classified(resident.tokenizer, items)) > 50
    learned(resident, items)
    assert accuracy(resident, items) > 0.9
    # The control: what is read first is what was second, and the labels stay.
    assert accuracy(resident, [replace(item, text_pair=item.text_pair[::-1]) for item in items]) < 0.1


def test_pairs_are_encoded_as_the_tokenizer_does_it(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    (_, pairs), (_, chosen) = xnli(tmp_path), xcopa(tmp_path)
    for name in ("bert", "xlm-r"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(encoder(name), trust_remote_code=False)
        for item, example in zip(pairs, classified(tokenizer, pairs), strict=True):
            assert example.ids == tokenizer(item.prompt, item.text_pair[0])["input_ids"]
            behind = tokenizer.decode(example.ids[example.second :], skip_special_tokens=True)
            assert behind == (item.text_pair[0] if name == "bert" else item.prompt + item.text_pair[0])
            assert LABELS[example.labels[0]] == LABELS[SAID.index(item.text_pair[0].split()[0])]
        for item, example in zip(chosen, classified(tokenizer, chosen), strict=True):
            wanted = [tokenizer(item.prompt, choice.strip())["input_ids"] for choice in item.choices]
            assert [option.ids for option in example.options] == wanted
            assert item.choices[example.labels[0]] == item.answer
    assert pairs[0].text_pair == ("aaaa 0",)
    assert chosen[0].prompt.endswith(" perché")


def test_a_model_that_tells_the_texts_of_a_pair_apart_is_told(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    """Logits are those of the plain forward pass on what the tokenizer gives, token type ids included."""
    _, items = xnli(tmp_path, 6)
    for name in ("bert", "xlm-r"):
        resident = bench_of(encoder(name), 3)
        resident.model.eval()
        texts = [i.prompt for i in items], [i.text_pair[0] for i in items]
        given = resident.tokenizer(*texts, padding=True, return_token_type_ids=True, return_tensors="pt")
        assert given["token_type_ids"].any() == (name == "bert")
        with resident.without_adapter(), torch.no_grad():
            ours, *_ = target_logits(resident.model, classified(resident.tokenizer, items), resident.pad, "classes")
            theirs = resident.model(**given).logits
            plain = resident.model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert torch.allclose(plain, theirs, atol=1e-5) == (name == "xlm-r")


def test_what_choices_name_says_what_an_encoder_reads() -> None:
    def of(choices: dict[str, str]) -> Task:
        return Task(prompt="{a}", answer="y", choices=choices, train=Source(files=["x"]))

    assert (of({"0": "yes", "1": "no"}).shared_columns, of({"0": "yes", "1": "no"}).outputs) == ([], 2)
    pair = of({"0": "Yes, {b}", "1": "Also, {b}", "2": "No, {b}"})
    assert (pair.shared_columns, pair.outputs) == (["b"], 3)
    own = of({"0": "{b}", "1": "{c}", "2": "neither"})
    assert (own.shared_columns, own.outputs) == (None, 1)
    assert Task(prompt="{a}", answer="y", train=Source(files=["x"])).outputs == 0


def test_a_long_premise_is_cut_and_the_hypothesis_stays(encoder: Callable[[str], Path], tmp_path: Path) -> None:
    _, (item, *_) = xnli(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder("xlm-r"), trust_remote_code=False)
    begin, end = item.longest_column
    long = replace(item, prompt="x" * 80 + item.prompt[end:], longest_column=(0, 80))
    (cut,), shortened = fitted(tokenizer, [long], "classes", None, 60)
    (example,) = classified(tokenizer, [cut])
    assert (begin, shortened, len(example.ids)) == (0, 1, 60)
    assert cut.text_pair == item.text_pair


def own_choices(**changes: Any) -> dict[str, Any]:
    """Changes of the recipe of `own_data`: two sentences to choose from, the right one of which is the text."""
    task = {
        "prompt": "{text}?",
        "answer": "label",
        "choices": {"pos": "{text}", "neg": "other"},
        "train": "data/train.{language}.jsonl",
        "test": "data/test.{language}.jsonl",
    }
    reference = {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16}
    return {"task": task, "reference": reference, "adapter": {"r": 2}} | changes


def test_a_run_on_choices_merges_a_head_of_one_output_and_leaves_the_base_model_out(
    encoder: Callable[[str], Path], own_data: Callable[..., Path]
) -> None:
    path = own_data(base_model=str(encoder("bert")), **own_choices())
    out = path.parent / "run"
    done = command("run", str(path), "--output", str(out))
    assert "has no row: its classification head is new" in " ".join(done.stderr.split())
    assert "has no row: its classification head is new" in (out / "report.md").read_text()
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["source-adapter", "adamergex", "ceiling"]
    merged = adapter.load(out / "merged/es/adamergex")
    assert merged.tensors["base_model.model.classifier.weight"].shape == (1, 32)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(encoder("bert"), num_labels=1)
    assert peft.PeftModel.from_pretrained(base, out / "merged/es/adamergex")
    with pytest.raises(
        RecipeError, match=r"evaluate\.methods: base model .* its classification head is new, .* other methods"
    ):
        command("validate", str(path), "--set", "evaluate.methods=[base]")


def test_a_head_counts_as_trained_for_the_labels_that_it_was_trained_for(tmp_path: Path) -> None:
    def written(**config: Any) -> Checkpoint:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]} | config))
        return Checkpoint("x", tmp_path, "")

    theirs = {"0": "Entailment", "1": "neutral", "2": "contradiction"}
    assert has_head(written(id2label=theirs), LABELS, 3)
    assert not has_head(written(id2label=theirs), LABELS[::-1], 3)
    assert not has_head(written(id2label=theirs), LABELS, 1)
    assert has_head(written(id2label={str(i): f"LABEL_{i}" for i in range(3)}), LABELS, 3)
    assert has_head(written(), ("a", "b"), 2)
    assert not has_head(written(architectures=["BertForMaskedLM"], id2label=theirs), LABELS, 3)


def test_a_base_model_with_a_trained_head_has_a_row(own_data: Callable[..., Path], tmp_path: Path) -> None:
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**families.BERT, num_labels=2, max_position_embeddings=128)
    )
    model.save_pretrained(tmp_path / "trained")
    families.tokenizer("bert").save_pretrained(tmp_path / "trained")
    path = own_data()
    out = tmp_path / "scores"
    task = json.loads(path.read_text())["task"]
    for split in ("train", "test"):
        task[split] = str(path.parent / task[split])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": task}))
    common = ["--language", "es", "--output", str(out), "--base-model", str(tmp_path / "trained")]
    command("evaluate", "--task", str(path), *common)
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [(row["method"], row["role"]) for row in rows] == [("base", "base")]


def test_what_an_encoder_cannot_be_asked_is_said_before_anything_runs(
    encoder: Callable[[str], Path], own_data: Callable[..., Path], tmp_path: Path
) -> None:
    path = own_data(base_model=str(encoder("xlm-r")), **own_choices(evaluate={"methods": ["source-adapter"]}))
    run = path.parent / "run"
    command("run", str(path), "--output", str(run))
    task, reference = (f"{name}={run / 'adapters' / name}-en" for name in ("task", "reference"))
    common = ["--language", "es", "--output", str(tmp_path / "o"), "--base-model", str(encoder("xlm-r"))]
    for arguments, says in (
        (["--task", "mgsm", "--adapter", task], r"task mgsm: its answers are written \(kind: number\)"),
        (
            ["--task", str(path), "--adapter", task, "--asking", "few-shot"],
            "asking few-shot: needs a model that writes",
        ),
        (["--task", str(path), "--adapter", task, "--asking", "xlt"], "asking xlt: needs a model that writes"),
        (["--task", str(path), "--adapter", task, "--harness", "arc_easy"], "harness: needs a model that writes"),
        (["--task", str(path)], "baseline base: on recipe the base model has no row: its classification head is new"),
        (
            ["--task", str(path), "--adapter", task, "--adapter", reference],
            "reference-en: brings no classification head",
        ),
    ):
        with pytest.raises(RecipeError, match=says) as caught:
            command("evaluate", *arguments, *common)
        assert len(caught.value.problems) == 1
    assert not list((tmp_path / "o").rglob("items.jsonl"))


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "camembert", "mpnet", "bert"])
def test_as_many_tokens_are_read_as_there_are_positions_for(name: str) -> None:
    config = transformers.AutoConfig.for_model(
        name, **{**families.BERT, "pad_token_id": 1, "bos_token_id": 0}, max_position_embeddings=20
    )
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    limit = positions(model)
    assert limit == (20 if name == "bert" else 18)
    model(input_ids=torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, limit + 1), 5))


def test_an_encoder_whose_tokenizer_knows_no_limit_is_given_no_more_than_it_takes(
    own_data: Callable[..., Path], tmp_path: Path
) -> None:
    config = transformers.XLMRobertaConfig(**families.BERT | {"pad_token_id": 1}, max_position_embeddings=40)
    transformers.XLMRobertaForMaskedLM(config).save_pretrained(tmp_path / "model")
    tokenizer = families.tokenizer("xlm-r")
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(tmp_path / "model")
    resident = bench_of(tmp_path / "model", 2)
    assert resident.context == 38
    prompt = "x" * 100
    item = Item("1", prompt, " yes", (" yes", " no"), (0, 100), ("yes",))
    (cut,), _ = fitted(tokenizer, [item], "classes", None, resident.context)
    assert len(predict(resident, PredictionRequest([cut], "choice", "en"))) == 1


def test_the_context_is_that_of_the_part_that_reads_text(tmp_path: Path) -> None:
    text = families.LLAMA | {"vocab_size": 300, "head_dim": 8, "sliding_window": 16, "max_position_embeddings": 96}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(**text).to_dict(),
        vision_config={"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, **vision},
        image_token_index=299,
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    assert getattr(model.config, "max_position_embeddings", None) is None
    assert positions(model) == 96


def test_a_prefix_leaves_the_room_that_it_takes_wherever_it_is_scored(
    own_data: Callable[..., Path], tmp_path: Path
) -> None:
    config = families.MODELS["gpt2"].to_dict() | {"n_positions": 64}
    folder = save_model(transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)), tmp_path / "gpt2")
    resident = ResidentModel(
        Checkpoint(str(folder), folder, ""), "float32", Prefix(structure="prefix", virtual_tokens=12)
    )
    resident.start(0)
    resident.adapter().save(tmp_path / "prefix")
    path = own_data()
    for language in ("en", "es"):
        for split in ("train", "test"):
            rows = [{"text": f"{n} {split} " + "long text " * 20, "label": ("pos", "neg")[n % 2]} for n in range(4)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (path.parent / f"data/{split}.{language}.jsonl").write_text(text)
    task = {
        **json.loads(path.read_text())["task"],
        **{s: str(path.parent / f"data/{s}.es.jsonl") for s in ("train", "test")},
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": task, "evaluate": {}, "source": "fr"}))
    out = tmp_path / "scores"
    command(
        *("evaluate", "--task", str(path), "--language", "es", "--base-model", str(folder), "--output", str(out)),
        *("--adapter", str(tmp_path / "prefix")),
    )
    for name in ("base", "prefix"):
        assert json.loads((out / f"predictions/recipe/es/{name}/scoring.json").read_text())["shortened"] == 4


def padded(tiny_model: Path, folder: Path, pad: int) -> Path:
    """The tiny model, whose embedding has 259 rows, beside a tokenizer that fills up with token number `pad`."""
    save_model(transformers.AutoModelForCausalLM.from_pretrained(tiny_model), folder)
    tokenizer = byte_tokenizer()
    if pad > 258:
        tokenizer.add_tokens([f"<more {n}>" for n in range(259, pad)])
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == pad
    tokenizer.save_pretrained(folder)
    return folder


def test_padding_that_the_model_has_no_row_for_changes_nothing(
    own_data: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    found = []
    for pad in (0, 261):
        resident = ResidentModel(
            Checkpoint("x", padded(tiny_model, tmp_path / str(pad), pad), ""), "float32", Lora(r=2)
        )
        resident.start(0)
        assert resident.pad == (2 if pad else 0)
        examples = [EncodedExample([1, *range(9, 9 + n)], [n]) for n in (3, 20)]
        items = [Item(str(n), "x" * n, " yes", (" yes", " no"), golds=("yes",)) for n in (3, 20)]
        written = predict(resident, PredictionRequest(items, "text", "en", max_new_tokens=4))
        chosen = predict(resident, PredictionRequest(items, "choice", "en"))
        found.append((resident.loss(examples).item(), [p.written for p in written], [p.choices for p in chosen]))
    assert found[0] == found[1]


def test_a_tokenizer_that_builds_sequences_with_tokens_beyond_the_embedding_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = padded(tiny_model, tmp_path / "model", 0)
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "</s>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"its tokenizer's eos_token </s> is number 259, its embedding has 259 rows"):
        ResidentModel(Checkpoint("x", folder, ""), "float32", Lora(r=2))
