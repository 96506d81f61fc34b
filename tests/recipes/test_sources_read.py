"""What is told of how labelled data are read."""

import json
from collections.abc import Callable
from pathlib import Path

from adamergex.data.settings import Source
from adamergex.recipes import loading
from adamergex.recipes.looked_at import task_sources
from adamergex.recipes.sources_read import told


def test_lines_in_quotes_and_samples_are_told(own_data: Callable[..., Path]) -> None:
    path = own_data()
    folder = path.parent
    assert told(task_sources(loading.load(str(path))), folder) == []
    (folder / "data/train.en.csv").write_text('text,label\n"one,\ntwo",pos\n"three\n\nfour",neg\n')
    (folder / "data/train.es.csv").write_text("text,label\nuno,pos\ndos,neg\n")
    recipe = loading.load(
        str(path), ["task.train=data/train.{language}.csv", "task.test={files: 'data/test.{language}.jsonl', limit: 4}"]
    )
    assert told(task_sources(recipe), folder) == [
        f"{folder}/data/train.en.csv: 3 rows, its header among them, stand on 5 lines, as line breaks stand in quotes; where quotes "
        "are characters of the text, write quotes: false",
        "data/test.es.jsonl: at most 4 rows (limit), drawn with every label in its share, the same in every run",
    ]


def test_a_member_that_stands_for_its_macrolanguage_is_told() -> None:
    task = loading.load("sib200").task
    source = Source(benchmark="sib200", split="test")
    assert told([(task, source, code) for code in ("qu", "quy", "es", "qu")], Path()) == [
        "sib200: qu (Quechua) is read as quy (Ayacucho Quechua), the only one of it that there is"
    ]


def test_validate_tells_it(own_data: Callable[..., Path]) -> None:
    from typer.testing import CliRunner

    from adamergex.cli.main import app

    path = own_data()
    override = "task.test={files: 'data/test.{language}.jsonl', limit: 4}"
    done = CliRunner().invoke(app, ["validate", str(path), "--json", "--set", override])
    assert done.exit_code == 0, done.output
    note = "data/test.es.jsonl: at most 4 rows (limit), drawn with every label in its share, the same in every run"
    assert note in json.loads(done.stdout)["notes"]
