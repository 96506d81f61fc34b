"""Recipes of every kind on tiny models with their data, all of them valid; and what may be other in them, valid or not."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests import conftest, families, zoo
from tests.attack import mutations
from tests.chat_templates import save

Recipe = dict[str, Any]
LANGUAGES = ("en", "es", "sw", "fr")
CHOICES = {"pos": "yes", "neg": "no"}


def _split(name: str) -> str:
    return f"data/{name}.{{language}}.jsonl"


CLASSIFY = {
    "prompt": "{text}:", "answer": "label", "choices": CHOICES, "train": _split("train"), "test": _split("test"),
}  # fmt: skip
WRITE = {
    "prompt": "{text}?", "answer": "said", "train": _split("train"), "test": _split("test"), "dev": _split("dev"),
}  # fmt: skip
OWN: Recipe = {
    "name": "own", "base_model": "models/llama", "targets": ["es"], "task": CLASSIFY,
    "reference": {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16, "positions": 5},
    "adapter": {"r": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]},
    "train": {"learning_rate": 1e-2, "task": {"epochs": 1, "batch_size": 8}, "reference": {"batch_size": 8}},
    "merge": {"scale": 0.5},
    "evaluate": {"methods": ["base", "source-adapter", "adamergex"]},
}  # fmt: skip
DEV = {"dev": _split("dev"), "unlabelled": _split("inputs")}
GIVEN = {"task": "adapters/task", "reference": {"en": "adapters/source", "es": "adapters/target"}}
LIKE_GIVEN = {"r": 2, "alpha": 3, "target_modules": ["q_proj", "down_proj"]}
TABLE = {"files": "data/table.csv", "where": {"lang": "{language}"}}
RECIPES: dict[str, Recipe] = {
    "choices": OWN,
    "ceiling": OWN | {"evaluate": {"methods": ["base", "few-shot", "xlt", "reference-target", "adamergex", "ceiling"]}},
    "text": OWN | {"task": WRITE, "evaluate": {"max_new_tokens": 3}},
    "number": OWN
    | {"task": WRITE | {"kind": "number", "answer": "sum", "marker": "is"}, "evaluate": {"max_new_tokens": 3}},
    "extraction": OWN
    | {
        "task": WRITE | {"kind": "extraction", "answer": "words", "prompt": "{text} {label}"},
        "evaluate": {"max_new_tokens": 3},
    },
    "corpus": OWN
    | {
        "reference": {
            "corpus": {"files": "data/text.{language}.txt", "documents": "paragraphs"}, "characters": 700, "window": 16,
            "heldout": 0.1, "duplicates": "keep", "boilerplate": "keep", "other_languages": "drop",
        }
    },
    "corpora": OWN
    | {
        "reference": {
            "corpus": TABLE, "text": "text", "tokens": 128, "window": 16, "objective": "prefix", "completion": 2,
            "corpora": {"es": "data/text.es.txt"},
        }
    },
    "tasks": {key: value for key, value in OWN.items() if key not in ("task", "evaluate")}
    | {
        "targets": ["es", "sw"], "tasks": {"one": CLASSIFY, "two": WRITE},
        "overrides": {"one/sw": {"merge": {"scale": 0.2}}, "two": {"evaluate": {"max_new_tokens": 2}}},
    },
    "given": OWN | {"adapters": GIVEN, "adapter": LIKE_GIVEN},
    "given task": OWN | {"adapters": {"task": "adapters/task"}, "adapter": LIKE_GIVEN, "targets": ["sw"]},
    "refine": OWN | {"task": CLASSIFY | DEV, "refine": {"share": 0.5}},
    "transductive": OWN
    | {"refine": {"transductive": True, "inputs": _split("inputs"), "labelled": _split("few")}},
    "calibrate": OWN
    | {
        "task": CLASSIFY | {"unlabelled": _split("inputs")},
        "evaluate": {"calibration": {"method": "prior", "shares": {"pos": 3, "neg": 1}, "inputs": 60}},
    },
    "chat": OWN | {"base_model": "models/chat", "task": CLASSIFY | {"chat": True, "system": "Say."}},
    "messages": OWN
    | {
        "base_model": "models/chat", "evaluate": {"max_new_tokens": 2},
        "task": {"messages": "turns", "train": _split("chats"), "test": _split("chats-test")},
    },
    "benchmark": OWN | {"task": {"benchmark": "sib200", "data": "data/bench"}},
    "rslora": OWN | {"adapter": {"r": 2, "rslora": True, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 3}}},
    "dora": OWN | {"adapter": {"r": 2, "dora": True}},
    "ia3": OWN | {"adapter": {"structure": "ia3"}},
    "prefix": OWN | {"adapter": {"structure": "prefix", "virtual_tokens": 3}},
    "seeds": OWN | {"seeds": [1, 2]},
    "chosen": OWN | {"merge": {"scale": "auto"}},
    "chosen by others": OWN
    | {"task": CLASSIFY | DEV, "merge": {"scale": [0.5, 1], "selection": {"validation": ["fr"]}}},
    "chosen by few": OWN | {"task": CLASSIFY | DEV, "merge": {"scale": "auto", "selection": {"few_shot": 10}}},
    "labelled reference": OWN
    | {"reference": {"task": CLASSIFY | {"train": _split("other"), "test": None}, "heldout": 0.2}},
    "baselines": OWN
    | {"evaluate": {"methods": ["ties", "dare-ties", "adamergex"], "baselines": {"ties": {"density": 0.5}}}},
    "other method": OWN | {"merge": {"method": "ties", "scale": 0.5, "density": 0.3}},
    "table": OWN
    | {
        "task": {
            "prompt": "{body}{note}:", "answer": "gold", "choices": CHOICES, "optional": {"note": " {note}"},
            "train": TABLE | {"columns": {"body": "text", "gold": "label"}, "where": {"lang": "{language}", "part": "train"}},
            "test": TABLE | {"columns": {"body": "text", "gold": "label"}, "where": {"lang": "{language}", "part": "test"}},
        }
    },
    "encoder": OWN
    | {
        "base_model": "models/xlm-r", "adapter": {"r": 2, "target_modules": ["query"]},
        "reference": {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16},
    },
    "seq2seq": OWN
    | {
        "base_model": "models/t5", "adapter": {"r": 2, "target_modules": ["q"]},
        "reference": {"corpus": "data/text.{language}.txt", "tokens": 128, "window": 16},
    },
    "wordings": OWN
    | {
        "task": CLASSIFY
        | {
            "dev": _split("dev"), "overlap": "drop",
            "wordings": {"es": {"prompt": "¿{text}?", "choices": {"pos": "si", "neg": "no"}, "separator": ""}},
        },
        "train": OWN["train"] | {"early_stopping": {"every": 1}, "max_length": 64},
    },
}  # fmt: skip

# Values that a setting may have somewhere, which is not said to be here.
SETTINGS: dict[str, list[Any]] = {
    "name": ["a", "A.b_c-d", "con", "a" * 300, "..", "x."],
    "folder": [".", "data", "nowhere", "..", "/"],
    "seeds": [[0], [3, 4], [2**63 - 1, 0], []],
    "seed": [7, 2**63 - 1],
    "base_model": ["models/llama", "models/xlm-r", "models/t5", "models/chat", "models/none", "data", "adapters/task"],
    "dtype": ["bfloat16", "float16"],
    "quantization": ["4bit"],
    "device": ["cpu", "cuda", "mps", "cuda:7"],
    "source": ["es", "fr", "eng", "xx", "qaa", "en-US", "und"],
    "targets": [["fr"], ["sw", "es"], ["en"], ["de"], ["spa"], ["es", "es-MX"], ["zh-Hant"], ["x-own"]],
    "task.prompt": ["{text}", "{label}", "{absent}", "{text[0]}", "{text.x}", "{n}", "{{}}{text}", "\u202e{text}", "{turns}"],
    "task.answer": ["label", "said", "sum", "text", "words", "absent", "n", "turns", "none"],
    "task.learned": ["said", "label", "absent", "none", "words"],
    "task.kind": ["choice", "text", "number", "extraction", "generation"],
    "task.separator": ["", "\n", "  ", "x" * 3000],
    "task.optional": [["text"], {"note": "x{note}"}, []],
    "task.answer_format": ["canonical", "language"],
    "task.choices": [
        ["pos", "neg"], ["pos"], {"pos": "a", "neg": "a "}, {"pos": "{text}", "neg": "no"}, {"pos": "\u200b", "neg": "."},
        {"pos": "yes", "neg": "no", "other": "x"}, {"pos": "w" * 2000, "neg": "no"}, {"pos": "{said}", "neg": "{label}"},
    ],
    "task.chat": [True, False],
    "task.system": ["Be brief.", "{text}"],
    "task.overlap": ["refuse", "drop", "allow"],
    "task.train": ["data/*.jsonl", _split("few"), _split("inputs"), "data/text.{language}.txt", _split("test"), {**TABLE}],
    "task.train.limit": [1, 2, 5],
    "task.test": [None, _split("train"), _split("few"), "data/text.{language}.txt", "data/test.es.jsonl", _split("inputs")],
    "task.test.limit": [1, 2],
    "task.dev": [None, _split("dev"), _split("test"), _split("few"), _split("train")],
    "task.dev.limit": [1, 9],
    "task.unlabelled": [None, _split("inputs"), _split("test"), _split("train"), "data/text.{language}.txt"],
    "task.examples": [_split("few"), _split("train"), "data/few.en.jsonl", _split("test")],
    "task.wordings": [{"es": {"prompt": "{absent}"}}, {"en": {"prompt": "{text}", "choices": CHOICES}}],
    "task.messages": ["turns", "text"],
    "reference.corpus": [
        _split("train"), "data/text.en.txt", "data/*.txt", _split("inputs"), {"files": "data/text.{language}.txt", "limit": 1},
        {"files": "data/text.{language}.txt", "documents": "file"}, {"files": "data/text.{language}.txt", "encoding": "utf-16"},
    ],
    "reference.corpora": [{"es": "data/text.fr.txt"}, {"sw": _split("inputs")}, {"de": "data/absent.txt"}],
    "reference.text": ["text", "said", "absent", "n"],
    "reference.tokens": [1, 20, 500, 10**6, 2**62],
    "reference.characters": [1, 20, 900, 10**6],
    "reference.window": [8, 16, 600, 2000, 10**9],
    "reference.heldout": [0, 0.5, 0.001],
    "reference.positions": [1, 15, 16],
    "reference.objective": ["causal", "prefix", "masked", "span"],
    "reference.completion": [1, 7, 15, 16],
    "reference.noise": [0.01, 0.9],
    "reference.span": [1, 100],
    "reference.duplicates": ["keep", "drop"],
    "reference.other_languages": ["drop", "count"],
    "reference.task.train": [_split("few"), _split("inputs"), _split("test")],
    "adapters": [
        GIVEN, {"task": "adapters/source"}, {"reference": {"es": "adapters/target"}}, {"task": "models/llama"},
        {"task": "adapters/none"}, {"task": "adapters/small"}, {"task": "adapters/rank"},
    ],
    "adapter": [
        {"structure": "ia3"}, {"structure": "prefix"}, {"structure": "prefix", "virtual_tokens": 1500}, {"dora": True},
        {"structure": "ia3", "target_modules": ["q_proj"], "feedforward_modules": ["down_proj"]},
        {"structure": "ia3", "target_modules": ["down_proj"], "feedforward_modules": ["down_proj"]},
        {"r": 40, "target_modules": ["lm_head"]}, {"r": 1, "target_modules": ["embed_tokens"]},
        {"target_modules": ["norm"]}, {"target_modules": ["layers.0.self_attn.q_proj"]}, {"target_modules": ["absent"]},
    ],
    "adapter.r": [1, 64, 2**16],
    "adapter.dropout": [0.0, 0.5],
    "adapter.alpha": [1e-9, 1e30],
    "adapter.target_modules": ["all-linear", ["o_proj"], ["q_proj", "absent"], []],
    "adapter.rank_pattern": [{"q_proj": 1}, {"absent": 4}, {".*": 3}, {"(": 3}],
    "train.learning_rate": [1e-9, 1e6, 0.1],
    "train.schedule": ["linear", "constant_with_warmup"],
    "train.warmup_ratio": [0, 1],
    "train.task": [{"epochs": 10**12}, {"batch_size": 10**12}, {"batch_size": 1}],
    "train.max_length": [8, 12, 10**9],
    "train.micro_batch": [1, 10**9],
    "train.precision": ["bf16", "fp16"],
    "train.gradient_checkpointing": [True],
    "train.packing": [True],
    "train.early_stopping": [{"every": 1, "patience": 1}, {"every": 10**9}, None],
    "train.checkpoint_seconds": [0, 1e300],
    "track": [["tensorboard"], ["wandb"], []],
    "merge": [
        {"method": method, "scale": 0.5} for method in ("adamergex", "ties", "dare-ties", "task-arithmetic", "factor-space")
    ] + [
        {"method": "layer-swap", "bottom": 1, "top": 1}, {"method": "layer-swap", "bottom": 5, "transition": 9}, {"scale": "auto"},
        {"scale": []}, {"scale": [0.5, 0.5]}, {"scale": {"default": 0.1, "modules": {"absent": 1}}}, {"scale": -5}, {"scale": 1e30},
        {"scale": 0}, {"rule": "multiplicative"}, {"rule": "pseudo-inverse"}, {"rank": 1}, {"rank": "exact"}, {"rank": 10**6},
        {"scale": {"default": 0.1, "layers": {"0": 1}}}, {"dtype": "bfloat16"}, {"scale": {"layers": [0, 1]}},
        {"scale": "auto", "selection": {"validation": ["sw", "es"]}}, {"scale": "auto", "selection": {"few_shot": 10**9}},
        {"scale": "auto", "selection": {"validation": ["de"]}}, {"scale": "auto", "selection": {"sum": False}},
    ],
    "refine": [{}, {"share": 1}, {"share": 1e-9}, {"inputs": _split("test")}, {"labelled": _split("train")}, {"labelled": _split("few")}],
    "refine.inputs": [_split("inputs"), _split("test"), "data/absent.txt", _split("train"), _split("dev")],
    "evaluate.split": ["dev", "test"],
    "evaluate.methods": [
        ["base"], ["few-shot"], ["xlt"], ["ceiling"], ["adamergex"], ["reference-target"], ["layer-swap"], ["ties", "factor-space"],
        ["base", "source-adapter", "task-arithmetic", "dare-ties", "ceiling"],
    ],
    "evaluate.metric": ["macro_f1", "balanced_accuracy", "accuracy"],
    "evaluate.shots": [1, 32],
    "evaluate.length_normalization": ["tokens", "characters"],
    "evaluate.calibration": ["none", "batch", {"shares": "uniform"}, {"shares": {"pos": 1}}, {"shares": {"pos": 0.5, "neg": 0.5}}],
    "evaluate.baselines": [{"ties": {"density": 1e-9}}, {"layer-swap": {"bottom": 1}}, {"adamergex": {"scale": 1}}],
    "evaluate.batch_size": [1, 10**12],
    "evaluate.max_new_tokens": [1, 1000, 10**9],
    "trust_remote_code": [True],
}  # fmt: skip


def write(folder: Path) -> None:
    """All models, data and adapters that `RECIPES` name."""
    models = folder / "models"
    conftest.save_model(conftest.tiny_llama(7, 259), models / "llama")
    save("gemma3", models / "chat")
    for name in ("xlm-r", "t5"):
        families.save(name, models / name)
    llama = partial(conftest.tiny_llama, 7, 259)
    zoo.three(llama, zoo.lora, folder / "adapters")
    zoo.train(llama, zoo.lora(r=3), folder / "adapters/rank", 4)
    zoo.train(zoo.llama, zoo.lora(), folder / "adapters/small", 5)
    _rows(folder / "data")


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _rows(data: Path) -> None:
    data.mkdir()
    table = ["lang,part,text,label,note"]
    counts = {"train": 12, "test": 8, "dev": 16, "few": 10, "inputs": 60, "other": 10, "chats": 6, "chats-test": 4}
    for code in LANGUAGES:
        for split, count in counts.items():
            rows: list[dict[str, Any]] = [
                {
                    "text": f"{split} {code} {i} word", "label": ("pos", "neg")[i % 2], "said": f"say {i}", "sum": str(i),
                    "words": [f"{i} word", "word"], "n": i, "none": None,
                    "turns": [{"role": "user", "content": f"{split} {code} {i}"}, {"role": "assistant", "content": f"a{i}"}],
                }
                for i in range(count)
            ]  # fmt: skip
            _jsonl(data / f"{split}.{code}.jsonl", rows)
            if split in ("train", "test"):
                table += [f'{code},{split},"{row["text"]}, then",{row["label"]},{"n" * (row["n"] % 2)}' for row in rows]
        paragraphs = [f"good bad paragraph number {n} of the language {code} is here" for n in range(40)]
        (data / f"text.{code}.txt").write_text("\n\n".join(paragraphs))
    (data / "table.csv").write_text("\n".join(table) + "\n")
    for code in ("eng_Latn", "spa_Latn"):
        place = data / "bench" / code
        place.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            lines = [f"{split}{i}\t{('travel', 'sports')[i % 2]}\t{split} {code} sentence {i}" for i in range(8)]
            (place / f"{split}.tsv").write_text("index_id\tcategory\ttext\n" + "\n".join(lines) + "\n")


def other(draw: Random, recipe: Recipe) -> Recipe:
    """A recipe with another value in one of `SETTINGS`."""
    key = draw.choice(list(SETTINGS))
    *above, last = key.split(".")
    recipe = json.loads(json.dumps(recipe))
    sections = [recipe]
    if above and above[0] == "task" and "tasks" in recipe:
        sections, above = [recipe["tasks"][draw.choice(list(recipe["tasks"]))]], above[1:]
    for name in above:
        inner = sections[-1].get(name)
        inner = {"files": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else {}
        sections[-1][name] = inner
        sections.append(inner)
    sections[-1][last] = draw.choice(SETTINGS[key])
    return recipe


def _changed_rows(change: Callable[[Random, list[dict[str, Any]]], list[Any]]) -> Callable[[Random, Path], None]:
    def write(draw: Random, path: Path) -> None:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            path.write_bytes(b"\n".join(map(mutations.json_text, change(draw, rows))))
        else:
            lines = path.read_text("utf-8").splitlines()
            path.write_text("\n".join(lines[: draw.randrange(len(lines) + 1)]))

    return write


def _in_a_row(value: Callable[[Random], Any]) -> Callable[[Random, list[dict[str, Any]]], list[Any]]:
    def change(draw: Random, rows: list[dict[str, Any]]) -> list[Any]:
        some = draw.choice([rows, [draw.choice(rows)]])
        column = draw.choice(list(rows[0]))
        for row in some:
            row[column] = value(draw)
        return rows

    return change


def _from_elsewhere(draw: Random, path: Path) -> None:
    """Rows that stand in another file, too."""
    beside = sorted(path.parent.glob(f"*{path.suffix}"))
    path.write_bytes(draw.choice([b"", path.read_bytes()]) + draw.choice(beside).read_bytes())


def _folder(draw: Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(draw: Random, path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _without(draw: Random, rows: list[dict[str, Any]]) -> list[Any]:
    column = draw.choice(list(rows[0]))
    return [{key: row[key] for key in row if key != column} for row in rows]


TEXTS = [
    "",
    " ",
    "x" * 3000,
    "word " * 900,
    "\u202eabc",
    "\x00",
    "\u2028",
    "{text}",
    "<eos>",
    "<start_of_turn>",
    "नमस्ते",
    "\ud800",
    "pos",
]
FILES: dict[str, Callable[[Random, Path], Any]] = {
    "gone": lambda draw, path: path.unlink(),
    "empty": lambda draw, path: path.write_bytes(b""),
    "white": lambda draw, path: path.write_bytes(b" \n\n\t\n"),
    "folder": _folder,
    "dangling": _dangling,
    "elsewhere": _from_elsewhere,
    "latin": lambda draw, path: path.write_bytes("él niño\n\n".encode("cp1252") + path.read_bytes()),
    "utf-16": lambda draw, path: path.write_bytes(path.read_text("utf-8").encode("utf-16")),
    "mark": lambda draw, path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "damaged": lambda draw, path: path.write_bytes(mutations.damaged(draw, path.read_bytes())),
    "some": _changed_rows(lambda draw, rows: rows[: draw.randrange(1, len(rows) + 1)]),
    "one": _changed_rows(lambda draw, rows: rows[:1]),
    "twice": _changed_rows(lambda draw, rows: rows + rows),
    "column": _changed_rows(_without),
    "value": _changed_rows(_in_a_row(lambda draw: draw.choice(mutations.VALUES))),
    "text": _changed_rows(_in_a_row(lambda draw: draw.choice(TEXTS))),
    "same": _changed_rows(lambda draw, rows: [row | {"label": "pos"} for row in rows]),
    "changed": _changed_rows(lambda draw, rows: mutations.changed(draw, rows, 2)),
}  # fmt: skip


def mutate(draw: Random, number: int, folder: Path) -> tuple[Recipe, int]:
    """Write a recipe of the folder's that is other in none to three places, and return it with their number."""
    recipe = list(RECIPES.values())[number % len(RECIPES)]
    times = draw.choice([0, 1, 1, 1, 2, 2, 2, 3])
    for _ in range(times):
        match draw.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                recipe = other(draw, recipe)
            case 5 | 6 | 7 | 8:
                _other_file(draw, folder, recipe)
            case _:
                recipe = mutations.changed(draw, recipe)
    (folder / "recipe.yaml").write_bytes(mutations.json_text(recipe))
    return recipe, times


def _other_file(draw: Random, folder: Path, recipe: Recipe) -> None:
    """Change a file that the recipe reads."""
    text = json.dumps(recipe)
    files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    read = [path for path in files if f"/{path.name.split('.')[0]}." in text or "bench" in str(path)]
    read = [path for path in read if path.suffix != ".tsv" or "bench" in text]
    path = draw.choice(read or files)
    kind = draw.choice(list(FILES))
    try:
        FILES[kind](draw, path)
    except (UnicodeError, ValueError, IndexError, AttributeError, TypeError, IsADirectoryError):
        # It was changed before, and is no file of rows any more.
        path.write_bytes(b"\xff")
