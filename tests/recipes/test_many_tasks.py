"""Recipes with several tasks: what each task comes to, how it is written down, and what is refused."""

from pathlib import Path

import pytest

from adamergex.errors import RecipeError
from adamergex.recipes import loading
from adamergex.recipes.recipe import Recipe, each_once
from adamergex.storage.yaml_model import check

OWN = """name: lab
base_model: tiny
targets: [es, sw, yo]
tasks:
  topics: {prompt: "{text}:", answer: label, choices: [a, b], train: "a.{language}.csv", test: "b.{language}.csv"}
  intents: {prompt: "{text}:", answer: label, choices: [c, d], train: "c.{language}.csv", test: "d.{language}.csv"}
reference: {corpus: "text.{language}.txt"}
"""


def recipe(more: str = "", *overrides: str) -> Recipe:
    return check(Recipe, OWN + more, "lab.yaml", overrides)


def overridden(text: str) -> Recipe:
    return recipe(f"overrides: {text}")


def test_without_overrides_each_task_is_a_recipe_of_its_own() -> None:
    found = recipe()
    assert [(part.task, part.name, part.recipe.targets) for part in found.parts] == [
        ("topics", "topics", ["es", "sw", "yo"]),
        ("intents", "intents", ["es", "sw", "yo"]),
    ]
    alone = OWN.replace("tasks:\n  topics:", "task:").split("  intents:")
    one = check(Recipe, alone[0] + alone[1].split("\n", 1)[1], "one.yaml")
    assert found.parts[0].recipe == one == one.parts[0].recipe
    assert one.parts[0].task == ""
    # As it was written before there were several.
    assert not {"tasks", "overrides"} & one.model_dump().keys()


def test_a_pair_counts_more_than_a_language_and_that_more_than_a_task() -> None:
    found = overridden(
        "{topics: {merge: {scale: 0.1}, train: {task: {epochs: 7}}}, yo: {merge: {scale: 0.2}}, "
        "topics/yo: {merge: {scale: 0.3}}, intents/sw: {evaluate: {calibration: {inputs: 300}}}}"
    )
    assert {
        (part.task, code): (str(part.recipe.merge.scale), part.recipe.train.task.epochs)
        for part in found.parts
        for code in part.recipe.targets
    } == {
        ("topics", "es"): ("0.1", 7),
        ("topics", "sw"): ("0.1", 7),
        ("topics", "yo"): ("0.3", 7),
        ("intents", "es"): ("0.5", 3),
        ("intents", "sw"): ("0.5", 3),
        ("intents", "yo"): ("0.2", 3),
    }
    assert [part.name for part in found.parts] == [
        "topics/es, sw",
        "topics/yo",
        "intents/es",
        "intents/sw",
        "intents/yo",
    ]
    # What is beside an overridden key is kept.
    assert found.parts[0].recipe.train.task.batch_size == recipe().train.task.batch_size
    assert found.parts[3].recipe.evaluate.calibration.inputs == 300


@pytest.mark.parametrize(
    "overrides",
    [
        "{yo: {merge: {method: ties}}, intents: {source: sw, evaluate: {metric: macro_f1}}}",
        "{topics: {reference: {task: {prompt: '{t}', answer: l, choices: [a, b], train: 'q.{language}.csv'}}}}",
        "{topics: {adapter: {structure: ia3}, train: {learning_rate: 0.1}}, es: {refine: {inputs: 'i.{language}.csv'}}}",
        "{topics/es: {merge: {scale: auto, selection: {few_shot: 50}}}}",
        "{intents: {evaluate: {calibration: {shares: {c: 0.2, d: 0.8}}}, reference: {corpora: {yo: 'more.txt'}}}}",
        "{intents: {adapters: {task: somewhere}}}",
    ],
)
def test_what_is_written_down_comes_to_the_same(overrides: str) -> None:
    found = recipe(f"overrides: {overrides}", "tasks.topics.dev=e.{language}.csv")
    again = check(Recipe, loading.dump(found), "again.yaml")
    assert again == found
    assert [part.recipe for part in again.parts] == [part.recipe for part in found.parts]
    assert loading.dump(again) == loading.dump(found)
    # It says what is other, whatever was left out.
    assert again.overrides


def test_each_part_is_given_the_reference_adapters_that_it_reads() -> None:
    given = "adapters: {reference: {es: a, yo: b, sw: c}}\noverrides: "
    found = recipe(given + "{topics: {adapters: {task: d}}, intents: {source: sw}, topics/yo: {merge: {scale: 0.2}}}")
    assert {part.name: part.recipe.given_adapters for part in found.parts} == {
        "topics/es, sw": {"task-en": "d", "reference-es": "a", "reference-sw": "c"},
        "topics/yo": {"task-en": "d", "reference-yo": "b"},
        "intents": {"reference-sw": "c", "reference-es": "a", "reference-yo": "b"},
    }
    assert found.overrides["topics"] == {"adapters": {"task": "d"}}
    assert check(Recipe, loading.dump(found), "again.yaml") == found
    with pytest.raises(RecipeError, match=r"adapters.reference lists fr, which the recipe does not read"):
        recipe("adapters: {reference: {fr: a}}")


def test_a_selection_is_taken_back_for_one_language() -> None:
    text = (
        "merge: {scale: auto, selection: {validation: [fr]}}\noverrides: {yo: {merge: {scale: 0.2, selection: null}}}"
    )
    found = recipe(text, "tasks.topics.dev=e.{language}.csv", "tasks.intents.dev=f.{language}.csv")
    assert [part.recipe.selection is None for part in found.parts] == [False, True, False, True]
    assert check(Recipe, loading.dump(found), "again.yaml") == found


def test_another_kind_of_adapter_keeps_nothing_of_the_recipes_own() -> None:
    found = recipe("adapter: {r: 4, alpha: 4}\noverrides: {topics: {adapter: {structure: ia3}}}")
    assert [part.recipe.structure for part in found.parts] == ["(IA)³", "LoRA"]


@pytest.mark.parametrize(
    ("more", "problems"),
    [
        ("task: sib200", ["lab.yaml: task and tasks are both given; move the one task into tasks, under a name"]),
        (
            "overrides: {topcs: {source: es}, intents/zz: {merge: {scale: 0.1}}}",
            [
                "lab.yaml:8: overrides.topcs: is no task, no target language and no pair of them, TASK/CODE; did you mean topics?",
                "lab.yaml:8: overrides.intents/zz: is no task, no target language and no pair of them, TASK/CODE; did you mean "
                "intents?",
            ],
        ),
        (
            "overrides: {yo: {train: {learning_rate: 1}}, topics: {marge: {scale: 0.1}}}",
            [
                "lab.yaml:8: overrides.yo.train: cannot be other for a language; merge, refine, evaluate can",
                "lab.yaml:8: overrides.topics.marge: cannot be other for a task; source, adapters, reference, adapter, train, "
                "merge, refine, evaluate can; did you mean merge?",
            ],
        ),
        (
            "overrides: {topics: {train: {tsk: {epochs: 7}, learning_rate: -1}}}",
            [
                "lab.yaml:8: overrides.topics.train.learning_rate: input should be greater than 0; got -1",
                "lab.yaml:8: overrides.topics.train.tsk: unknown key; did you mean task?",
            ],
        ),
        (
            "overrides: {topics: {train: {micro_batch: 4}}}",
            [
                "lab.yaml:8: overrides.topics.train.micro_batch: changes no result; set train.micro_batch for the whole run"
            ],
        ),
        (
            "overrides: {topics: {merge: {scale: 0.5}}}",
            ["lab.yaml:8: overrides.topics.merge: has no effect: nothing comes out otherwise without it; remove it"],
        ),
        (
            "overrides: {sw: {evaluate: {split: dev}}}",
            [
                "lab.yaml: topics/sw, intents/sw: evaluate.split is dev, but the task has no dev source; add task.dev",
            ],
        ),
        (
            "overrides: {intents/sw: {evaluate: {metric: macro_f1}}}",
            [
                "lab.yaml: intents: evaluate.metric is accuracy for es, yo and macro_f1 for sw; its languages are compared, set it "
                "for the task"
            ],
        ),
        (
            "overrides: {zh: {}}",
            ["lab.yaml:8: overrides.zh: is no task, no target language and no pair of them, TASK/CODE"],
        ),
        (
            "overrides: {topics: {}}",
            ["lab.yaml:8: overrides.topics: expected sections, such as merge: {scale: 0.2}; got {}"],
        ),
        (
            "overrides: [topics]",
            ["lab.yaml:8: overrides: expected NAME → sections, such as {topics: {merge: {scale: 0.2}}}; got"],
        ),
        (
            "overrides: {es: {merge: {scale: 0.1}}, spa: {merge: {scale: 0.2}}}",
            ["lab.yaml:8: overrides.spa: is the same as es; make one of the two"],
        ),
        (
            "adapters: {task: somewhere}",
            [
                "lab.yaml:8: adapters.task: is of one task, and there are several; write it as overrides.NAME.adapters.task"
            ],
        ),
        (
            "evaluate: {methods: [base]}",
            ["lab.yaml:8: evaluate.methods: lacks adamergex, which topics, intents are merged with; add it"],
        ),
        ("tasks: {a: sib200}", ['lab.yaml:8: not valid YAML: found duplicate key "tasks"']),
        ("source: yo", ["lab.yaml:3: targets: lists yo, which is the source language of every task; remove it"]),
        ("train: {early_stopping: {}}", ["lab.yaml: train.early_stopping needs held-out items: give task.dev, and"]),
    ],
)
def test_what_cannot_be_is_said_in_a_line_each(more: str, problems: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(more)
    found = list(caught.value.problems)
    assert len(found) == len(problems), found
    for line, expected in zip(found, problems, strict=True):
        assert line.startswith(expected), line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ("{}", "lab.yaml:4: tasks: expected at least one task by name, such as {topics: sib200}; got {}"),
        ("[sib200]", "lab.yaml:4: tasks: expected at least one task by name, such as {topics: sib200}; got ['sib200']"),
        ("{../x: sib200}", "lab.yaml:4: tasks: '../x' is no name for a folder; use letters, digits, -, _ and ."),
        ("{3: sib200}", "lab.yaml:4: tasks: 3 is no name for a folder; use letters, digits, -, _ and ."),
        (
            "{a: sib200, A: sib200}",
            "lab.yaml:4: tasks.A: is called like a, but for capitals; give one of them another name",
        ),
        (
            "{spa: sib200}",
            "lab.yaml:4: tasks.spa: is the target language es, too, and overrides could mean either; give it another name",
        ),
    ],
)
def test_names_of_tasks_are_those_of_folders(tasks: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe("", f"tasks={tasks}")
    assert list(caught.value.problems) == [says]


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(OWN.replace("  intents:", "  topics:"))
    with pytest.raises(RecipeError) as caught:
        loading.load(str(tmp_path / "r.yaml"))
    (problem,) = caught.value.problems
    assert problem.startswith(f'{tmp_path}/r.yaml:6: not valid YAML: found duplicate key "topics" with value ')


def test_overrides_without_tasks_are_refused() -> None:
    one = OWN.replace("tasks:\n  topics:", "task:").split("  intents:")[0]
    with pytest.raises(RecipeError, match="overrides belong to tasks: write what is other into the recipe itself"):
        check(Recipe, f"{one}reference: {{corpus: x}}\noverrides: {{es: {{merge: {{scale: 0.1}}}}}}", "r.yaml")


def test_lines_on_all_parts_are_said_once_and_others_with_the_names_of_theirs() -> None:
    parts = overridden("{topics/yo: {merge: {scale: 0.2}}}").parts
    assert [part.name for part in parts] == ["topics/es, sw", "topics/yo", "intents"]
    assert each_once(parts, [["a", "b", "d"], ["b", "a", "e"], ["c", "a", "d"]]) == [
        "a",
        "topics: b",
        "topics/es, sw, intents: d",
        "topics/yo: e",
        "intents: c",
    ]
