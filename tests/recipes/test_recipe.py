import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from adamergex.errors import RecipeError
from adamergex.recipes import loading, recipe


def problems(name: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        loading.load(name, overrides)
    return caught.value.problems


@pytest.mark.parametrize("name", sorted(loading.shipped()))
def test_shipped_recipes_are_valid_and_say_what_they_are(name: str) -> None:
    assert loading.load(name).name == name
    assert len(loading.shipped()[name]) > 20


def test_norwegian_is_a_string(tmp_path: Path) -> None:
    text = loading.read("quickstart").replace("  - sl", "  - no")
    (tmp_path / "a.yaml").write_text(text)
    assert loading.load(str(tmp_path / "a.yaml")).targets == ["no"]
    assert loading.load("quickstart", ["targets=[no, es]"]).targets == ["no", "es"]


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert loading.load("quickstart", ["train.learning_rate=1e-4"]).train.learning_rate == 1e-4


def test_a_batch_size_alone_reads_plain_text_once() -> None:
    schedule = loading.load("quickstart", ["train.reference={batch_size: 2}"]).train.reference
    assert (schedule.epochs, schedule.batch_size) == (1, 2)


def test_all_problems_are_reported_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    text = loading.read("quickstart")
    text = (
        text.replace("learning_rate:", "lerning_rate:")
        .replace("window: 128", "window: none")
        .replace("seed: 0", "seed: -1")
    )
    text = text.replace("- sl", "- spanish")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    lines = text.splitlines()

    def at(word: str) -> int:
        return next(number for number, line in enumerate(lines, 1) if word in line and not line.startswith("#"))

    found = problems(str(path))
    assert len(found) == 4
    assert f"{path}:{at('lerning_rate')}: train.lerning_rate: unknown key; did you mean learning_rate?" in found
    assert any(
        problem.startswith(f"{path}:{at('window')}: reference.window: input should be a valid integer")
        for problem in found
    )
    assert any(problem.startswith(f"{path}:{at('seed')}: seed: ") and "got -1" in problem for problem in found)
    assert any(f"{path}:{at('targets')}: targets: 'spanish' is not a language code" in problem for problem in found)


def test_unknown_keys_get_suggestions_at_every_level() -> None:
    nested, top = problems("quickstart", "basemodel=x", "train.task.epoch=3")
    assert re.fullmatch(r"quickstart:\d+: train\.task\.epoch: unknown key; did you mean epochs\?", nested)
    assert top == "quickstart: basemodel: unknown key; did you mean base_model?"


def test_a_value_that_fits_no_alternative_is_one_problem() -> None:
    assert len(problems("quickstart", "merge.rank=foo")) == 1


def test_sections_that_contradict_each_other_are_refused() -> None:
    assert "targets lists en, which is the source language" in problems("quickstart", "targets=[en]")[0]
    found = problems("quickstart", "merge.method=factor-space", "merge.rank=4")[0]
    assert (
        "merge.rank: is for task-arithmetic, ties, dare-ties, layer-swap and adamergex; the method is factor-space"
        in found
    )
    assert "expected exactly one of files" in problems("quickstart", "task.train={split: train}")[0]
    assert "a dataset needs its split" in problems("quickstart", "task.train={dataset: x}")[0]
    assert "reference.corpus is the same for two languages" in problems("quickstart", "reference.corpus=all.txt")[0]
    assert "task.train is the same for two languages" in problems("quickstart", "task.train=all.jsonl")[0]
    assert "a label has no words" in problems("quickstart", "task.choices={a: ' ', b: x}")[0]
    assert "two labels" in problems("quickstart", "task.choices={a: 'x  y', b: x y}")[0]
    for prompt in ("{text:5d}", "{text!r}", '{"a"}', "{}", "no column", "{text"):
        assert "column" in problems("quickstart", f"task.prompt='{prompt}'")[0]
    assert "less than 9223372036854775808" in problems("quickstart", "seed=99999999999999999999")[0]
    assert "'q q' is not a language code" in problems("quickstart", "reference.corpora={q q: a.txt}")[0]
    assert "targets lists es and ES, which are the same language" in problems("quickstart", "targets=[es, ES]")[0]
    assert "two labels have the same words" in problems("quickstart", "task.choices={a: x, b: x}")[0]
    assert "ceiling needs labelled items" in problems("quickstart", "task.test=null")[0]


def test_a_metric_of_labels_needs_choices_that_name_no_columns() -> None:
    assert loading.load("quickstart", ["evaluate.metric=macro_f1"]).evaluate.metric == "macro_f1"
    [found] = problems("quickstart", "evaluate.metric=balanced_accuracy", "task.choices=null")
    assert (
        "evaluate.metric: balanced_accuracy is for labels that all items of a language share, and the task has no "
        "choices; leave it out"
    ) in found
    choices = "task.choices={a: '{text}', b: 'not {text}'}"
    [found] = problems("quickstart", "evaluate.metric=macro_f1", choices)
    assert "and the task's choices name columns; leave it out" in found
    assert "'accuracy', 'macro_f1' or 'balanced_accuracy'" in problems("quickstart", "evaluate.metric=f1")[0]


def test_methods_that_do_not_fit_the_adapters_are_refused_before_anything_is_trained() -> None:
    methods = "evaluate.methods=[source-adapter, adamergex, ties, task-arithmetic]"
    [found] = problems("quickstart", methods, "adapter={structure: prefix}")
    assert "task-arithmetic adds updates, and neither a prompt nor DoRA's magnitude is one; ties adds" in found
    assert "the adapters are prefix tuning; remove what does not fit" in found
    [found] = problems("quickstart", methods, "adapter.dora=true")
    assert "ties adds updates, and neither a prompt nor DoRA's magnitude is one; the adapters are DoRA" in found
    [found] = problems("quickstart", "evaluate.methods=[factor-space]", "adapter={structure: ia3}")
    assert "evaluate.methods: factor-space merges A and B of LoRA; the adapters are (IA)³" in found
    [found] = problems("quickstart", "evaluate.methods=[base, base]")
    assert "a method is listed twice" in found
    [found] = problems("quickstart", "track=[tensorboard, tensorboard]")
    assert "track: a tracker is listed twice" in found
    assert loading.load("quickstart", ["evaluate.methods=[adamergex, base]"]).evaluate.methods == [
        "base",
        "adamergex",
    ]


def test_unusable_overrides_and_names() -> None:
    assert problems("quickstart", "seed")[0] == "--set seed: expected section.key=value"
    assert "targets[0]: unknown key" in problems("quickstart", "targets[0]=fr")[0]
    assert "did you mean quickstart?" in problems("quickstat")[0]
    assert "No such file" in problems("absent.yaml")[0]


def test_yaml_errors_have_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nseed: [1\n")
    assert re.match(rf"{tmp_path}/a\.yaml:\d: not valid YAML", problems(str(tmp_path / "a.yaml"))[0])
    (tmp_path / "b.yaml").write_text("name: a\nname: b\n")
    assert "b.yaml:2: not valid YAML" in problems(str(tmp_path / "b.yaml"))[0]


def test_copy_never_overwrites(tmp_path: Path) -> None:
    path = loading.copy("own-data", tmp_path)
    assert path.read_text() == loading.read("own-data")
    with pytest.raises(RecipeError, match="exists already"):
        loading.copy("own-data", tmp_path)


def test_the_schema_covers_every_section() -> None:
    schema = recipe.Recipe.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"Task", "Reference", "Lora", "IA3", "Prefix", "Train", "AdaMergeX", "Ties", "Evaluate"} <= schema[
        "$defs"
    ].keys()
    json.dumps(schema)


def test_language_is_filled_into_sources(own_data: Callable[..., Path]) -> None:
    loaded = loading.load(
        str(own_data()), ["reference.corpora={es: {dataset: wiki, config: '2023.{language}', split: train}}"]
    )
    assert loaded.reference_source("en").files == ["data/text.en.txt"]
    assert loaded.reference_source("es").config == "2023.es"
    assert loaded.task.train.in_language("es").files == ["data/train.es.jsonl"]


def test_a_pattern_must_be_an_expression() -> None:
    (problem,) = problems("quickstart", "adapter={rank_pattern: {'(q': 4}}")
    assert "adapter.rank_pattern: '(q' is no regular expression" in problem
