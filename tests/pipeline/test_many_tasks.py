"""Several tasks in one recipe: what they share, what each has of its own, and what is said of all of them."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import adamergex
from adamergex.cli.main import app
from adamergex.errors import AdapterError, RecipeError
from adamergex.execution.stage import Plan
from adamergex.inference import delivered
from adamergex.pipeline import run_plan, run_sources
from adamergex.pipeline.evaluation_request import comparison
from adamergex.pipeline.planned import Planned
from adamergex.pipeline.run import finish
from adamergex.recipes import loading
from adamergex.sharing import publication
from tests.pipeline.test_plans import MODEL, contents, keys, plan
from tests.pipeline.test_run import Seen
from tests.stand_in_for_the_hub import Hub

Lab = Callable[..., Path]
ROOT = Path(__file__).parents[2]
# SHA-256 of all that determines the stages of a recipe with one task.
RECORDED = "6c5031ff74d96c382b69c0a17d26dbb3322e8f8cd5518132e42ee3a38481d5c4"
# The t that docs/many-tasks.md gives each pair.
MERGED = {"topics/merged/es": 0.5, "topics/merged/sw": 0.25, "intents/merged/es": 0.5, "intents/merged/sw": 0.4}


@pytest.fixture
def lab(own_data: Callable[..., Path]) -> Lab:
    """Write a recipe of two tasks and two target languages for the tiny model; keyword arguments replace its sections."""

    def write(**changes: Any) -> Path:
        path = own_data()
        data = path.parent / "data"
        (data / "text.sw.txt").write_text((data / "text.es.txt").read_text().replace("bueno", "nzuri"))
        recipe = json.loads(path.read_text())
        tasks = {}
        for name, words in {"topics": "topic", "intents": "wish"}.items():
            for split, language in (("train", "en"), ("train", "es"), ("test", "es"), ("test", "sw")):
                rows = (data / f"{split}.{'es' if language == 'sw' else language}.jsonl").read_text()
                (data / f"{name}.{split}.{language}.jsonl").write_text(rows.replace(split, f"{words} {language}"))
            sources = {key: f"data/{name}.{key}.{{language}}.jsonl" for key in ("train", "test")}
            tasks[name] = recipe["task"] | sources
        recipe |= {"tasks": tasks, "targets": ["es", "sw"], "name": "lab"}
        del recipe["task"], recipe["evaluate"]
        path.write_text(json.dumps(recipe | changes))
        return path

    return write


def planned(path: Path, *overrides: str) -> Planned:
    recipe, folder = loading.load(str(path), overrides), path.parent
    wanted = [one for part in recipe.parts for one in run_sources.sources(part.recipe, folder)]
    return run_plan.plan(recipe.parts, MODEL, contents(wanted), folder)


def alone(path: Path, name: str, *overrides: str) -> Plan:
    """The plan of the same recipe with one of its tasks, as `task`."""
    recipe = json.loads(path.read_text())
    one = {key: value for key, value in recipe.items() if key not in ("tasks", "overrides")}
    (path.parent / "one.yaml").write_text(json.dumps(one | {"task": recipe["tasks"][name]}))
    return plan(path.parent / "one.yaml", *overrides)


def trainings(stages: Plan) -> list[str]:
    return [id for id, stage in stages.items() if stage.kind == "train"]


def short(id: str) -> str:
    """An id as that of a recipe with one task."""
    return id.removeprefix("tasks/topics/").removeprefix("tasks/intents/")


def test_tasks_share_reference_adapters_and_have_the_keys_that_each_has_alone(lab: Lab) -> None:
    path = lab()
    stages = planned(path).stages
    # L + 1 references and K tasks.
    assert trainings(stages) == [
        "tasks/topics/adapters/task-en",
        "adapters/reference-en",
        "adapters/reference-es",
        "adapters/reference-sw",
        "tasks/intents/adapters/task-en",
    ]
    found = keys(stages)
    for name in ("topics", "intents"):
        one = keys(alone(path, name))
        shared = {id for id in one if id.startswith(("data/corpus-", "adapters/reference-"))}
        assert len(shared) == 6
        assert {id: found[id if id in shared else f"tasks/{name}/{id}"] for id in one} == one
    assert {short(id) for id in stages} == set(alone(path, "topics"))
    # What is scored of any task is looked at before anything is learned that it reads.
    checks = [f"tasks/{name}/checks/overlap-{code}" for name in ("topics", "intents") for code in ("es", "sw")]
    assert list(stages["adapters/reference-en"].after) == checks
    # TensorBoard's folders are named so.
    names: Any = [stages[id].params for id in trainings(stages)[:2]]
    assert [params.name for params in names] == ["topics/task-en", "reference-en"]


def test_each_seed_is_trained_once_for_all_tasks(lab: Lab) -> None:
    path = lab()
    both = planned(path, "seeds=[5, 1]")
    first = trainings(planned(path, "seed=5").stages)
    seconds = ["seed-1/" + id if id == short(id) else id.replace("/adapters", "/seed-1/adapters") for id in first]
    assert sorted(trainings(both.stages)) == sorted([*first, *seconds])
    one = keys(alone(path, "intents", "seed=1"))
    found = keys(both.stages)
    assert found["tasks/intents/seed-1/adapters/task-en"] == one["adapters/task-en"]
    assert both.delivered["intents/sw"] == "tasks/intents/delivered/sw"
    assert both.stages["tasks/intents/seed-1/merged/sw/adamergex"].inputs["reference-target"] == (
        "seed-1/adapters/reference-sw",
    )


def test_what_an_override_makes_another_one_is_below_its_task(lab: Lab) -> None:
    stages = planned(lab(overrides={"topics": {"adapter": {"r": 4}}})).stages
    # The task without overrides has what it would have alone, though it is the second one.
    assert trainings(stages) == [
        "tasks/intents/adapters/task-en",
        "adapters/reference-en",
        "adapters/reference-es",
        "adapters/reference-sw",
        "tasks/topics/adapters/task-en",
        *(f"tasks/topics/adapters/reference-{code}" for code in ("en", "es", "sw")),
    ]
    # The plain text is the same.
    assert stages["tasks/topics/adapters/reference-es"].inputs == {"corpus": ("data/corpus-es",)}
    merged = stages["tasks/topics/merged/es/adamergex"].inputs
    assert merged["reference-source"] == ("tasks/topics/adapters/reference-en",)
    named: Any = stages["tasks/topics/adapters/reference-es"].params
    assert named.name == "topics/reference-es"


def test_tasks_with_the_same_override_share_what_comes_of_it(lab: Lab) -> None:
    more = {"topics": {"adapter": {"r": 4}}, "intents": {"adapter": {"r": 4}}}
    assert len(trainings(planned(lab(overrides=more)).stages)) == 5


def test_a_further_source_language_costs_one_reference_adapter(lab: Lab) -> None:
    path = lab(overrides={"intents": {"source": "es"}}, targets=["sw"])
    found = planned(path)
    assert trainings(found.stages) == [
        "tasks/topics/adapters/task-en",
        "adapters/reference-en",
        "adapters/reference-sw",
        "tasks/intents/adapters/task-es",
        "adapters/reference-es",
    ]
    # A task whose source is one of the targets has no adapter for it.
    both = planned(lab(overrides={"intents": {"source": "es"}}))
    assert list(both.delivered) == ["topics/es", "topics/sw", "intents/sw"]


def test_a_language_and_a_pair_are_merged_in_their_own_ways(lab: Lab) -> None:
    path = lab(overrides={"sw": {"merge": {"method": "ties"}}, "intents/sw": {"merge": {"scale": 0.25}}})
    found = planned(path)
    methods: Any = {id: stage.params for id, stage in found.stages.items() if stage.kind == "merge"}
    assert {id: (params.method.method, str(params.method.scale)) for id, params in methods.items()} == {
        "tasks/topics/merged/es/adamergex": ("adamergex", "0.5"),
        "tasks/topics/merged/sw/ties": ("ties", "0.5"),
        "tasks/intents/merged/es/adamergex": ("adamergex", "0.5"),
        "tasks/intents/merged/sw/ties": ("ties", "0.25"),
    }
    # Nothing is trained for it.
    assert len(trainings(found.stages)) == 5
    roles = {(cell.language, cell.system): cell.role for cell in found.tasks["topics"].cells}
    assert roles["sw", "ties"] == roles["es", "adamergex"] == "merged"


def test_what_is_dropped_for_one_language_is_dropped_for_those_with_overrides(lab: Lab) -> None:
    path = lab(overrides={"topics/sw": {"merge": {"scale": 0.25}}})
    stages = planned(path, "tasks.topics.overlap=drop").stages
    scored = ("tasks/topics/data/task-es-test", "tasks/topics/data/task-sw-test")
    assert stages["tasks/topics/data/task-en-train"].inputs == {"scored": scored}


def test_another_task_makes_nothing_of_the_first_again(lab: Lab) -> None:
    path = lab()
    whole = json.loads(path.read_text())
    (path.parent / "less.yaml").write_text(json.dumps(whole | {"tasks": {"topics": whole["tasks"]["topics"]}}))
    less, more = (keys(planned(one).stages) for one in (path.parent / "less.yaml", path))
    assert {id: more[id] for id in less} == less


def test_a_run_of_two_tasks_is_one_matrix_with_a_page_for_each(lab: Lab, hub: Hub) -> None:
    path, seen = lab(), Seen()
    # What docs/many-tasks.md shows, on a model and with budgets that take no time.
    shown = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/many-tasks.md").read_text("utf-8"), re.DOTALL)
    assert shown is not None
    settings = json.loads(path.read_text())
    small = [f"{key}={json.dumps(settings[key])}" for key in ("base_model", "adapter", "reference", "train")]
    path.write_text(shown[1])
    recipe, output = loading.load(str(path), small), path.parent / "run"
    finished = finish(recipe, path.parent, output, seen)
    assert sum("/adapters/" in f"/{id}" for id in seen.made) == 5
    merged = {part: json.loads((output / f"tasks/{part}/adamergex/merge.json").read_text()) for part in MERGED}
    assert {part: of["scale"] for part, of in merged.items()} == MERGED
    logs = [output / f"tasks/{task}/adapters/task-en/training.jsonl" for task in ("topics", "intents")]
    # Six items in batches of four: two steps an epoch.
    assert [len(log.read_text().splitlines()) for log in logs] == [4, 10]
    assert list(finished.delivered) == ["topics/es", "topics/sw", "intents/es", "intents/sw"]
    assert finished.delivered["intents/sw"] == output / "tasks/intents/delivered/sw"
    rows = [json.loads(line) for line in (output / "scores.jsonl").read_text().splitlines()]
    assert {(row["task"], row["language"]) for row in rows} == {
        (task, language) for task in ("topics", "intents") for language in ("es", "sw", "average")
    }
    page = (output / "report.html").read_text()
    assert 'href="tasks/intents/report.html#results-2"' in page
    own = (output / "tasks/intents/report.html").read_text()
    assert 'id="results-2"' in own
    assert 'href="../../report.html"' in own
    # Rows of a task's own report are those of a run with that task alone.
    text = (output / "report.md").read_text()
    assert "5 trainings: 3 of reference adapters, which the tasks share, 2 of tasks" in text
    assert "| language | topics | intents | average |" in text
    # A second run, from its own folder, makes nothing.
    seen = Seen()
    again = adamergex.run(output, display=seen)
    assert seen.made == []
    assert list(again.table.index.names) == ["task", "language", "system"]
    assert len(again) == 18

    # Each pair is found by its names.
    assert delivered.find(output, "spa", "topics") == output / "tasks/topics/delivered/es"
    for given, says in (
        (("es", None), "has adapters for the tasks topics, intents; choose one with --task"),
        ((None, "topics"), "has adapters for es, sw; choose one with --language"),
        (("es", "topcs"), "has no adapters for the task 'topcs'; it has topics, intents; did you mean topics?"),
    ):
        with pytest.raises((AdapterError, RecipeError)) as caught:
            delivered.find(output, *given)
        assert caught.value.problems == (f"{output}: {says}",) or list(caught.value.problems) == [f"{output}: {says}"]
    # A task's folder is as that of a run with it alone.
    assert delivered.find(output / "tasks/topics", "sw") == output / "tasks/topics/delivered/sw"

    # Published are all pairs, or those of one task.
    whole = publication.prepared(output, "me/lab", base_model="some/model")
    assert [path for path in whole.files if path.endswith("safetensors")] == [
        f"{task}/{code}/adapter_model.safetensors" for task in ("topics", "intents") for code in ("es", "sw")
    ]
    assert "| intents | [Swahili](intents/sw/README.md) | `sw` | accuracy " in whole.card
    assert 'adamergex.predictor("me/lab", task="topics", language="es")' in whole.card
    part = publication.prepared(output, "me/lab", base_model="some/model", task="intents", language="sw")
    scored = next(
        row for row in rows if (row["task"], row["language"], row["method"]) == ("intents", "sw", "adamergex")
    )
    assert f"| merged (t = 0.4) | {100 * scored['score']:.1f} |" in part.card

    # Both tasks of the run are scored by evaluate.
    request = comparison({}, {"run": str(output)}, ["es"], base_model="some/model")
    assert list(request.tasks) == ["topics", "intents"]
    # What it says of itself.
    result = CliRunner().invoke(app, ["validate", str(output), "--json"])
    assert json.loads(result.output)["tasks"] == ["topics", "intents"]


def test_a_matrix_of_which_nothing_is_scored_says_so(lab: Lab) -> None:
    path = lab()
    sources = ["tasks.topics.test=null", "tasks.intents.test=null", "targets=[es]"]
    finished = finish(loading.load(str(path), sources), path.parent, path.parent / "run")
    assert list(finished.delivered) == ["topics/es", "intents/es"]
    for name in ("report.md", "report.html", "tasks/topics/report.html"):
        assert "Nothing was scored." in (path.parent / "run" / name).read_text()


def test_a_recipe_with_one_task_has_the_ids_and_keys_that_it_had_before_there_were_several(
    own_data: Callable[..., Path],
) -> None:
    """Recorded before: with another value here, finished runs would be made again."""
    stages = plan(own_data(), "seeds=[0, 1]")
    found = [(stage.id, stage.kind, stage.params.identity(), stage.inputs) for stage in stages.values()]
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest() == RECORDED
