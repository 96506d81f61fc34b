"""Few-shot prompts, XLT's template, benchmarks by name in a recipe, and traps that other scorers fell into."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.errors import RecipeError
from adamergex.inference.generation import completion
from adamergex.pipeline.run import run
from adamergex.recipes import loading
from adamergex.recipes.preflight import Looked, check
from adamergex.recipes.recipe import Recipe
from adamergex.scoring.scorers import score_completion
from adamergex.tasks import prompting
from adamergex.tasks.items import Item

CHOICES = (" yes", " no")
SOLVED = [Item(f"s{i}", f"Q{i}:", " no" if i == 3 else " yes", CHOICES) for i in range(6)]


def test_few_shot_examples_take_turns_by_label_and_the_prompt_stays_whole() -> None:
    [item] = prompting.few_shot([Item("a", "Text: long one. So:", " yes", CHOICES, (6, 15))], SOLVED, 2, 0)
    before, _, asked = item.prompt.rpartition("\n\n")
    assert asked == "Text: long one. So:"
    assert sorted(example[3:] for example in before.split("\n\n")) == [" no", " yes"]
    begin, end = item.longest_column
    assert item.prompt[begin:end] == "long one."
    assert prompting.few_shot([item], SOLVED, 4, 7) == prompting.few_shot([item], SOLVED, 4, 7)
    assert prompting.few_shot([Item("b", "Text", "")], SOLVED, 32, 0)[0].prompt.count("Q") == 6


def test_xlt_names_the_language_lists_the_options_and_answers_behind_its_marker() -> None:
    item = Item("a", "Text: abc.", "是", ("是", "否"), (6, 9))
    [asked] = prompting.xlt([item], "choice", "zh")
    assert asked.prompt.startswith(
        "I want you to act as a natural language understanding expert for Chinese.\nRequest: Text"
    )
    assert "\nOption 1: 是\nOption 2: 否\n" in asked.prompt
    assert asked.prompt[slice(*asked.longest_column)] == "abc"
    [answered] = prompting.answering([asked], ["It says abc.\nAnswer: Option 2\nAnswer:"])
    assert answered.prompt.endswith("\n\nIt says abc.\nAnswer:")
    assert answered.choices == (" 是", " 否")
    assert answered.answer in answered.choices


def recipe(task: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "a",
            "base_model": "m",
            "targets": ["es", "th"],
            "task": task,
            "reference": {"corpus": "{language}.txt"},
        }
    )


def test_a_benchmark_by_name_fills_in_a_task_and_what_is_given_goes_first() -> None:
    mgsm = recipe("mgsm").task
    assert (mgsm.answer_kind, mgsm.learned, mgsm.marker) == ("number", "solution", "The answer is")
    assert mgsm.train.benchmark == "gsm8k"
    assert mgsm.test is not None
    assert (mgsm.test.benchmark, mgsm.test.split, mgsm.dev) == ("mgsm", "test", None)
    assert mgsm.wording("es").prompt == mgsm.prompt
    own = recipe(
        {"benchmark": "mgsm", "prompts": "target", "data": "d", "prompt": "{question}?", "dev": "dev.{language}.csv"}
    )
    assert own.task.prompt == "{question}?"
    assert own.task.wording("es").marker == "La respuesta es"
    assert own.task.dev is not None
    assert own.task.test is not None
    assert (own.task.dev.files, own.task.test.folder) == (["dev.{language}.csv"], "d")
    assert recipe(json.loads(own.task.model_dump_json())).task == own.task
    with pytest.raises(ValueError, match="mgssm: no such benchmark; .* did you mean mgsm"):
        recipe("mgssm")
    with pytest.raises(ValueError, match="sib200: the paper has no wording"):
        recipe({"benchmark": "sib200", "prompts": "paper"})
    with pytest.raises(ValueError, match="choices and kind: choice belong together"):
        recipe({"benchmark": "xcopa", "kind": "text"})
    with pytest.raises(ValueError, match="wording has other labels"):
        recipe({"benchmark": "xcopa", "wordings": {"th": {"prompt": "{stem}", "choices": ["a", "b"]}}})


def test_a_benchmark_runs_from_its_authors_files(own_data: Callable[..., Path]) -> None:
    """XCOPA on a tiny model: learned from COPA, choices that are the row's own, dev that no language of training has."""
    path = own_data(
        task={"benchmark": "xcopa", "data": "resident"},
        targets=["et"],
        evaluate={"methods": ["base", "source-adapter"]},
    )
    resident = path.parent / "resident"
    item = {"question": "effect", "changed": False}

    def rows(count: int, words: str) -> str:
        made = (
            {
                **item,
                "premise": f"{words} {i}.",
                "choice1": f"One {i}.",
                "choice2": f"Two {i}.",
                "label": i % 2,
                "idx": i,
            }
            for i in range(count)
        )
        return "".join(json.dumps(row) + "\n" for row in made)

    for name, text in (("xcopa/data/et/test.et.jsonl", rows(6, "Mees")), ("copa/train.jsonl", rows(8, "The man"))):
        (resident / name).parent.mkdir(parents=True, exist_ok=True)
        (resident / name).write_text(text)
    (path.parent / "data/text.et.txt").write_text((path.parent / "data/text.es.txt").read_text())
    loaded = loading.load(str(path), [])
    table = run(loaded, folder=path.parent, output=path.parent / "run")
    assert [(row.language, row.items, row.metric) for row in table] == [("et", 6, "accuracy")] * 2
    asked = (path.parent / "run/data/task-et-test/items.jsonl").read_text().splitlines()
    first = json.loads(asked[1])
    assert first["choices"][1].strip().lower().startswith("two 1")
    assert first["answer"] == first["choices"][1]
    assert "seetõttu" in first["prompt"]


def test_training_items_that_are_scored_stop_a_run_before_anything_is_learned(own_data: Callable[..., Path]) -> None:
    path = own_data()
    test = path.parent / "data/test.es.jsonl"
    train = json.loads((path.parent / "data/train.en.jsonl").read_text().splitlines()[1])
    train["text"] = f" {train['text'].upper()} !"
    test.write_text(test.read_text() + json.dumps(train) + "\n")
    with pytest.raises(RecipeError, match=r"task data \(es\): 1 of 9 scored items stand in train, too \(1 pair, "):
        run(loading.load(str(path), []), folder=path.parent, output=path.parent / "run")
    assert not (path.parent / "run/adapters").exists()


@pytest.mark.parametrize(
    ("overlap", "trained", "says"),
    [
        ("drop", 5, "task-en-train: 1 of 6 items were dropped, being scored, too (task.overlap)"),
        ("allow", 6, "es: 1 of 9 scored items stand in train, too (task.overlap); whatever"),
    ],
)
def test_what_is_scored_too_is_dropped_or_said(
    own_data: Callable[..., Path], overlap: str, trained: int, says: str
) -> None:
    path = own_data()
    folder = path.parent
    test = folder / "data/test.es.jsonl"
    train = json.loads((folder / "data/train.en.jsonl").read_text().splitlines()[1])
    test.write_text(test.read_text() + json.dumps(train) + "\n")
    recipe = loading.load(str(path), [f"task.overlap={overlap}", "evaluate.methods=[base]"])
    assert check(recipe, folder) == Looked()
    run(recipe, folder=folder, output=folder / "run")
    assert len((folder / "run/data/task-en-train/items.jsonl").read_text().splitlines()) == trained
    assert len((folder / "run/data/task-es-test/items.jsonl").read_text().splitlines()) == 9
    assert says in (folder / "run/report.md").read_text()


@pytest.mark.parametrize(
    ("completed", "gold", "kind", "language", "score"),
    [
        # A completion that starts with a line break is no answer by itself.
        ("\nneutral", "entailment", "text", "en", 0),
        ("\nentailment", "entailment", "text", "en", 1),
        # Numbers of the prompt and of the next question are not the answer's.
        ("6 + 12 = 18\nThe answer is 18.\n\nQuestion: 7 apples?", "18", "number", "en", 1),
        ("The answer is 1,000.50.", "50", "number", "en", 0),
        ("The answer is 1,000.50.", "1000.50", "number", "en", 1),
        ("১২", "12", "number", "bn", 1),
        ("๑๘", "18", "number", "th", 1),
        ("１８", "18", "number", "ja", 1),
        ("La respuesta es −7.", "7", "number", "es", 0),
        ("La respuesta es −7.", "-7", "number", "es", 1),
        ("La respuesta es 1.000.", "1000", "number", "es", 1),
        ("The answer is 18 (of 20).", "18", "number", "en", 1),
        # Extraction is compared in the answer's language, without its articles.
        ("la casa", "casa", "extraction", "es", 1),
        ("北京市", "北京市", "extraction", "zh", 1),
        # ROUGE of scripts that English tokenizers drop.
        ("สวัสดีชาวโลก", "สวัสดีชาวโลก", "generation", "th", 1),
        ("ሰላም ለዓለም", "ሰላም ለዓለም", "generation", "am", 1),
    ],
)
def test_traps_of_other_scorers(completed: str, gold: str, kind: str, language: str, score: int) -> None:
    found = score_completion(kind, completion(completed, kind), [gold], language, None)  # type: ignore[arg-type]
    assert next(iter(found.scores.values())) == pytest.approx(score)
