"""Choices by likelihood, generation, and evaluations that are cut off."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adamergex.errors import ModelError
from adamergex.inference import choices, generation
from adamergex.inference.answering import PromptSpec, build_prompts, rounds
from adamergex.inference.journal import Journal
from adamergex.inference.predict import Prediction, PredictionRequest, _batches, predict
from adamergex.inference.settings import Evaluate
from adamergex.models.adapter_settings import Lora
from adamergex.models.encode import fitted, for_training
from adamergex.models.resident import ResidentModel
from adamergex.storage.checkpoints import Checkpoint
from adamergex.tasks.items import Item
from adamergex.tasks.prompting import BETWEEN, XLT_TOKENS, answering, few_shot
from adamergex.tasks.task import Task
from adamergex.training.settings import Schedule, Train
from adamergex.training.train import train
from tests.conftest import SETTINGS
from tests.families import save

CHOICES = (" a", " ab", " abc", " b", " 犬", " ax")
ITEMS = [
    Item(str(i), f"{'question ' * (i % 3)}{i}:", CHOICES[i % 6], CHOICES, golds=(CHOICES[i % 6].strip(),))
    for i in range(7)
]
ASKED = PredictionRequest(ITEMS, "choice", "en", batch_size=5)
WRITTEN = PredictionRequest(
    [Item(str(i), f"{'words ' * (i % 4)}{i}:", " x", golds=("x",)) for i in range(6)], "text", "en", max_new_tokens=6
)


def naive(resident: ResidentModel, item: Item, end: Sequence[int] = (2,)) -> list[float]:
    """One plain forward pass for each choice and its end, log-softmax over everything, in float64."""
    scores = []
    for choice in item.choices:
        prompt = resident.tokenizer.encode(item.prompt)
        ids = [*resident.tokenizer.encode(item.prompt + choice), *end]
        with torch.no_grad():
            log_p = resident.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        scores.append(sum(float(log_p[i - 1, ids[i]]) for i in range(len(prompt), len(ids))))
    return scores


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_log_likelihoods_equal_one_plain_pass_for_each_choice(resident: ResidentModel, layout: Any) -> None:
    resident.start(0)
    with torch.inference_mode():
        found = choices.log_likelihoods(resident, choices.options(resident, ITEMS), layout)
    for item, of_item in zip(ITEMS, found, strict=True):
        assert of_item == pytest.approx(naive(resident, item), abs=1e-4)


def test_where_no_choice_begins_another_nothing_is_added_to_them(resident: ResidentModel) -> None:
    resident.start(0)
    items = [Item("a", "q:", " ab", (" ab", " x", " 犬")), ITEMS[0]]
    with torch.inference_mode():
        found = choices.log_likelihoods(resident, choices.options(resident, items), "rows")
    assert found[0] == pytest.approx(naive(resident, items[0], ()), abs=1e-4)
    assert found[1] == pytest.approx(naive(resident, items[1]), abs=1e-4)


def test_behind_solved_examples_a_choice_ends_as_theirs_do(resident: ResidentModel) -> None:
    nested, apart = Item("a", "q:", " 1", (" 1", " 10")), Item("b", "q:", " 1", (" 1", " 2"))
    found = choices.options(resident, [apart, nested], "\n\n")
    assert [resident.tokenizer.decode(ids) for of in found for ids in of.tokens] == [" 1", " 2", " 1\n\n", " 10\n\n"]
    asked = few_shot([nested], [apart], 1, 0)
    task = Task.model_validate({"prompt": "{a}", "answer": "b", "train": "x.jsonl", "choices": ["1", "10"]})
    for asking, ending in (("few-shot", "\n\n"), ("plain", "")):
        _, questions = next(rounds(PromptSpec(task, Evaluate(), "en", asking, 0), asked))  # type: ignore[arg-type]
        assert questions.ending == ending
    assert f" 1{BETWEEN}" in asked[0].prompt


def test_a_choice_that_another_begins_wins_where_it_was_learned(tiny_model: Path) -> None:
    resident = ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "float32", SETTINGS)
    labels = tuple(f" {n}" for n in range(1, 11))
    items = [Item(label, f"{word}:", label, labels, golds=(label,)) for word, label in (("x", " 1"), ("y", " 10"))]
    learned, _ = for_training(resident.tokenizer, items)
    train(resident, lambda epoch: learned, Train(), Schedule(epochs=60, batch_size=2), 0, learning_rate=0.02)
    found = predict(resident, PredictionRequest(items, "choice", "en"))
    assert [prediction.prediction for prediction in found] == ["1", "10"]


def test_the_longest_choice_is_the_one_of_the_most_tokens(tmp_path: Path) -> None:
    """On GPT-2, which has no place for a token behind its context."""
    save("gpt2", tmp_path / "gpt2")
    resident = ResidentModel(Checkpoint("gpt2", tmp_path / "gpt2", "tiny"), "float32", Lora(r=2))
    text = "word " * 300
    long = Item(
        "a", f"{text}:", " 犬犬犬犬", (" abcdef", " 犬犬犬犬"), longest_column=(0, len(text)), golds=("犬犬犬犬",)
    )
    context = resident.context
    assert context is not None
    items, shortened = fitted(resident.tokenizer, [long], "causal", None, context)
    assert shortened == 1
    assert max(of.size for of in choices.options(resident, items)) == context - 1
    assert len(predict(resident, PredictionRequest(items, "choice", "en"))) == 1


def test_behind_thoughts_there_is_room_for_the_marker_and_the_longest_choice(resident: ResidentModel) -> None:
    text = "word " * 300
    items = [Item("a", f"{text}:", " 1", (" 1", " 10"), longest_column=(0, len(text)))]
    task = Task.model_validate({"prompt": "{a}", "answer": "b", "train": "x.jsonl", "choices": ["1", "10"]})
    put, shortened = build_prompts(resident, PromptSpec(task, Evaluate(), "en", "xlt", 0), items, [], 1024)
    (behind,) = choices.options(resident, answering(put, ["t" * XLT_TOKENS]))
    assert shortened == 1
    assert behind.size <= 1024


def checkpoint_with(tiny_model: Path, folder: Path, **generation: Any) -> Checkpoint:
    """The tiny model with a `generation_config.json` of its own."""
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return Checkpoint("tiny-llama", folder, "tiny")


def likeliest(resident: ResidentModel, prompt: str, count: int) -> list[int]:
    """The likeliest token, so many times."""
    ids = resident.tokenizer.encode(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(resident.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return list(ids[-count:])


def test_greedy_takes_the_likeliest_token_whatever_the_checkpoint_asks_for(tiny_model: Path, tmp_path: Path) -> None:
    asks: dict[str, Any] = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "do_sample": True, "temperature": 9.0}
    asks |= {"num_beams": 3, "min_new_tokens": 3, "suppress_tokens": list(range(100, 250)), "max_length": 2}
    resident = ResidentModel(checkpoint_with(tiny_model, tmp_path / "own", **asks), "float32", SETTINGS)
    resident.start(0)
    for prompt in ("words words 3:", "q"):
        expected = resident.tokenizer.decode(likeliest(resident, prompt, 12)).partition("<eos>")[0]
        item = Item("a", prompt, " x", golds=("x",))
        asked = PredictionRequest([item], "text", "en", max_new_tokens=12, until="never")
        assert predict(resident, asked)[0].written == expected
        # lm-evaluation-harness calls it like this.
        ids = torch.tensor([resident.tokenizer.encode(prompt)])
        whole = resident.model.generate(input_ids=ids, max_length=ids.shape[1] + 12, do_sample=False, pad_token_id=0)
        assert resident.tokenizer.decode(whole[0, ids.shape[1] :]).partition("<eos>")[0] == expected


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_a_text_ends_at_each_of_the_checkpoint_s_end_tokens(tiny_model: Path, tmp_path: Path, file: str) -> None:
    plain = ResidentModel(Checkpoint("tiny-llama", tiny_model, "tiny"), "float32", SETTINGS)
    plain.start(0)
    token = next(token for i, token in enumerate(likeliest(plain, "q", 8)) if i > 1)
    checkpoint = checkpoint_with(tiny_model, tmp_path / "own")
    path = checkpoint.folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, token]}))
    if file == "config.json":
        (checkpoint.folder / "generation_config.json").unlink()
    resident = ResidentModel(checkpoint, "float32", SETTINGS)
    resident.start(0)
    assert resident.ends == (2, token)
    asked = PredictionRequest([Item("a", "q", " x", golds=("x",))], "text", "en", max_new_tokens=8, until="never")
    written = likeliest(plain, "q", 8)
    assert predict(resident, asked)[0].written == resident.tokenizer.decode(written[: written.index(token)])


def test_choices_of_one_token_cost_one_sequence_for_each_item(resident: ResidentModel) -> None:
    seen: list[tuple[int, int]] = []
    items = [Item(str(i), f"{i}:", "a", ("a", "b", "c", "d"), golds=("a",)) for i in range(6)]
    predict(
        resident, PredictionRequest(items, "choice", "en", batch_size=4), lambda done, total: seen.append((done, total))
    )
    assert seen == [(4, 6), (6, 6)]


def test_the_likeliest_choice_is_the_prediction_whatever_the_batch(resident: ResidentModel) -> None:
    by_size = [predict(resident, replace(ASKED, batch_size=size)) for size in (1, 5, 64)]
    for found in by_size:
        for item, prediction, first in zip(ITEMS, found, by_size[0], strict=True):
            scores = naive(resident, item)
            assert prediction.id == item.id
            assert prediction.prediction == item.choices[scores.index(max(scores))].strip()
            assert prediction.scores == {"accuracy": float(prediction.prediction == item.answer.strip())}
            # Sums in another order round otherwise: by so much at most, on float32.
            assert prediction.choices == pytest.approx(first.choices, abs=2e-4)


def test_log_likelihoods_are_divided_by_what_was_asked_for() -> None:
    item = Item("a", "p", " ab", (" ab", " abcd"))
    assert choices.normalized([-2.0, -3.0], item, [1, 3], "none") == [-2.0, -3.0]
    assert choices.normalized([-2.0, -3.0], item, [1, 3], "tokens") == [-2.0, -1.0]
    assert choices.normalized([-2.0, -3.0], item, [1, 3], "characters") == [-1.0, -0.75]


def test_generation_does_not_depend_on_the_batch(resident: ResidentModel) -> None:
    resident.start(0)
    one, many = (predict(resident, replace(WRITTEN, batch_size=size)) for size in (1, 6))
    item = WRITTEN.items[3]
    ids = resident.tokenizer(item.prompt, return_tensors="pt")["input_ids"]
    plain = resident.model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    text = resident.tokenizer.decode(plain, skip_special_tokens=True)
    assert [p.prediction for p in one] == [p.prediction for p in many]
    assert one[3].prediction == next((line.strip() for line in text.splitlines() if line.strip()), "")


def test_an_answer_ends_where_its_kind_says() -> None:
    assert generation.completion("\n first line \nsecond", "extraction") == "first line"
    assert (
        generation.completion("\n2 + 2 = 4\nThe answer is 4.\n\nQuestion: 7?", "number")
        == "2 + 2 = 4\nThe answer is 4."
    )
    assert generation.completion("  \n ", "text") == ""


def test_generation_stops_at_the_end_of_every_answer(resident: ResidentModel) -> None:
    script = resident.tokenizer.encode("ab\ncdefgh", add_special_tokens=False)
    start = len(resident.tokenizer.encode("q"))

    stop = generation._Ended(resident.tokenizer, "text", start, None)
    ids = torch.tensor([resident.tokenizer.encode("q")] * 2)
    done = []
    for token in script:
        ids = torch.cat([ids, torch.tensor([[token]] * 2)], 1)
        done.append(stop(ids, None).tolist())
    # Behind the line break, and from then on.
    assert done == [[False] * 2] * 2 + [[True] * 2] * (len(script) - 2)


def rows(found: Sequence[Prediction]) -> str:
    return json.dumps([asdict(prediction) for prediction in found])


@pytest.mark.parametrize(
    "questions", [replace(ASKED, batch_size=6), replace(WRITTEN, batch_size=2)], ids=["choice", "text"]
)
def test_an_evaluation_that_was_cut_off_goes_on_where_it_was(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, questions: PredictionRequest
) -> None:
    resident.start(0)
    whole = predict(resident, questions)

    class KilledError(Exception):
        pass

    batches: list[int] = []

    def kill(done: int, total: int) -> None:
        batches.append(done)
        if len(batches) == 2:
            raise KilledError

    path = tmp_path / "journal"
    with pytest.raises(KilledError):
        predict(resident, questions, kill, Journal(path))
    with path.open("ab") as file:
        file.write(b'{"5": {"id": "half wri')
    seen: list[int] = []
    again = predict(resident, questions, lambda done, total: seen.append(done), Journal(path))
    assert seen[0] > batches[1]
    assert rows(again) == rows(whole)


def test_damaged_lines_of_a_journal_are_no_answers(resident: ResidentModel, tmp_path: Path) -> None:
    """A digit more, a line of something else: these items are answered again, and it is said."""
    resident.start(0)
    path = tmp_path / "journal"
    whole = predict(resident, ASKED, journal=Journal(path))
    content = path.read_bytes()
    assert Journal(path).rows.keys() == set(range(len(whole)))
    path.write_bytes(b"[1, 2]\n" + content.replace(b'"prediction": "', b'"prediction": "x', 1))
    said: list[str] = []
    damaged = Journal(path, warn=said.append)
    assert 0 < len(whole) - len(damaged.rows) <= ASKED.batch_size
    assert rows(predict(resident, ASKED, journal=damaged)) == rows(whole)
    lines = content.count(b"\n")
    assert said == [f"{path}: 2 of {lines + 1} lines are damaged and dropped; they are answered again"]
    assert Journal(path).rows.keys() == set(range(len(whole)))


def test_a_batch_that_does_not_fit_is_halved_and_so_are_later_ones(
    resident: ResidentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = replace(ASKED, batch_size=64)
    whole = predict(resident, questions)
    real, sizes = choices.log_likelihoods, list[int]()

    def small(resident: ResidentModel, batch: Any, layout: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return real(resident, batch, layout)

    monkeypatch.setattr("adamergex.inference.choices.log_likelihoods", small)
    found = predict(resident, questions)
    assert [p.prediction for p in found] == [p.prediction for p in whole]
    assert sizes == [7, 4, 2, 2, 2, 1]

    def never(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("adamergex.inference.choices.log_likelihoods", never)
    with pytest.raises(ModelError, match="does not fit into memory, even alone"):
        predict(resident, questions)

    def broken(*args: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("adamergex.inference.choices.log_likelihoods", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        predict(resident, questions)


def test_batches_hold_like_lengths_and_so_many_sequences() -> None:
    assert _batches([3, 9, 4, 9], [1, 2, 1, 1], 2) == [[1], [3, 2], [0]]
    assert _batches([5, 5], [7, 1], 4) == [[0], [1]]
