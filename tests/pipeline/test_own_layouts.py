"""A run on data as people have them, from the files to the delivered adapter and its card."""

import bz2
import json
from collections.abc import Callable
from pathlib import Path

from adamergex.pipeline.run import run
from adamergex.recipes import loading
from adamergex.recipes.preflight import check


def test_one_json_object_of_all_languages_with_columns_within_columns(own_data: Callable[..., Path]) -> None:
    path = own_data()
    folder = path.parent
    rows = [
        {
            "lang": language,
            "split": split,
            "review": {"body text": f"{split} {place} {words[place % 2]}"},
            "answers": {"label": ["pos", "neg"][place % 2]},
        }
        for language, words in (("english", ("good", "bad")), ("spanish", ("bueno", "malo")))
        for split, count in (("train", 6), ("test", 8))
        for place in range(count)
    ]
    (folder / "all.json").write_text(json.dumps({"version": 1, "data": rows}, indent=1))
    names = {"en": "english", "es": "spanish"}
    for code, name in names.items():
        text = (folder / f"data/text.{code}.txt").read_bytes()
        (folder / f"data/{name}.txt.bz2").write_bytes(bz2.compress(text))
    recipe = json.loads(path.read_text())
    source = {"files": "all.json", "names": names}
    recipe["task"] |= {
        "prompt": "{review.body text}:",
        "answer": "answers.label",
        "train": source | {"where": {"lang": "{language}", "split": "train"}},
        "test": source | {"where": {"lang": "{language}", "split": "test"}, "limit": 4},
    }
    recipe["reference"]["corpus"] = {"files": "data/{language}.txt.bz2", "names": names}
    path.write_text(json.dumps(recipe))
    loaded = loading.load(str(path))
    check(loaded, folder)
    done = run(loaded, folder=folder, output=folder / "run")
    assert [row.items for row in done] == [4, 4, 4, 4]
    items = [json.loads(line) for line in (folder / "run/data/task-es-test/items.jsonl").read_text().splitlines()]
    assert sorted(item["answer"] for item in items) == [" no", " no", " yes", " yes"]
    assert all(item["prompt"].startswith("test ") and item["prompt"][-4:-1] in ("eno", "alo") for item in items)
    report = (folder / "run/report.md").read_text()
    assert "task-es-test: at most 4 rows (limit), drawn with every label in its share, the same in every run" in report
    # The card shows the prompt with the columns' names.
    assert "[review.body text]:" in (folder / "run/delivered/es/README.md").read_text()
