"""Files, folders, labels and texts whose names are HTML, markdown, templates or escape codes: text wherever they are shown."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests import conftest, zoo
from tests.attack import forked

pytestmark = pytest.mark.attack
IMAGE, TAG, TURNED = (
    "<img src=x onerror=alert(1)>{{7*7}}",
    '"><svg onload=alert(2)>',
    "\x1b[2J\u202eb[c](javascript:alert(3))",
)
# Attributes that run something.
_HANDLERS = ("on", "srcdoc", "formaction")


class Elements(HTMLParser):
    """The elements of a page that names could have brought, and its text."""

    def __init__(self, page: str, pictures: bool):
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self._pictures = pictures
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        drawn = tag == "svg" and self._pictures and ("onload", "alert(2)") not in attrs
        # The figure of a report's curves is a picture.
        named = tag == "img" and dict(attrs).get("src") != "training.png"
        if named or tag in ("script", "iframe", "object", "embed", "form", "base") or (tag == "svg" and not drawn):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith(_HANDLERS) or (name in ("href", "src") and "javascript:" in (value or "")):
                self.found.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, warm: None) -> tuple[Path, str]:
    """A run of two tasks on a base model, with data and an adapter all of which have such names; and what it said."""
    folder = tmp_path_factory.mktemp("hostile") / TURNED
    folder.mkdir()
    model = conftest.save_model(conftest.tiny_llama(7, 259), folder / IMAGE)
    data = folder / TAG
    data.mkdir()
    labels = {IMAGE: "yes", f"{TAG}{TURNED}": "no"}
    for code in ("en", "es"):
        for split in ("train", "test"):
            rows = [{"text": f"{split} {n} {IMAGE} {TAG} {TURNED}", "label": list(labels)[n % 2]} for n in range(8)]
            (data / f"{IMAGE}{split}.{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (data / f"{TURNED}.{code}.txt").write_text("\n\n".join(f"{IMAGE} paragraph {n} of {code}" for n in range(40)))
    sources = {split: f"{TAG}/{IMAGE}{split}.{{language}}.jsonl" for split in ("train", "test")}
    task = {"prompt": f"{IMAGE.replace('{{7*7}}', '')}{{text}}:", "answer": "label", "choices": labels} | sources
    recipe = {
        "name": "hostile", "base_model": model.name, "targets": ["es"], "tasks": {"one": task, "two": task},
        "reference": {"corpus": f"{TAG}/{TURNED}.{{language}}.txt", "tokens": 128, "window": 16, "duplicates": "keep"},
        "adapter": {"r": 2, "target_modules": ["q_proj"]}, "merge": {"scale": 0.5},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    [adapter, *_] = zoo.three(lambda: conftest.tiny_llama(7, 259), zoo.lora, folder / TAG / "adapters")
    adapter.rename(folder / f"{IMAGE}{TURNED}")
    evaluated = ["--adapter", f"a={IMAGE}{TURNED}", "--task", "recipe.yaml", "--language", "es"]
    said = ""
    for arguments in (
        ["validate", "recipe.yaml"],
        ["run", "recipe.yaml", "--output", f"{IMAGE}run"],
        ["plan", "recipe.yaml", "--output", f"{IMAGE}run"],
        ["inspect", f"{IMAGE}{TURNED}"],
        ["evaluate", *evaluated, "--base-model", model.name, "--output", f"{TAG}out"],
        ["publish", f"{IMAGE}run", "--to", "me/it", "--base-model", "me/base", "--dry-run"],
    ):
        shown = folder.with_name("shown")
        status, _ = forked.run(arguments, folder, shown, 120)
        text = shown.read_bytes().decode()
        assert (status, "Traceback" in text) == (0, False), f"{arguments}\n{text[-3000:]}"
        said += text
    return folder, said


def test_pages_hold_no_element_of_a_name(hostile_run: tuple[Path, str]) -> None:
    pages = sorted(hostile_run[0].rglob("*.html"))
    assert len(pages) >= 4
    shown = ""
    for page in pages:
        elements = Elements(page.read_text("utf-8"), pictures=True)
        assert elements.found == [], page
        shown += elements.text
    assert IMAGE in shown
    assert TAG in shown
    assert "\x1b" not in shown


def test_markdown_holds_no_element_of_a_name(hostile_run: tuple[Path, str]) -> None:
    pages = sorted(hostile_run[0].rglob("*.md"))
    assert any(page.name == "README.md" for page in pages)
    shown = ""
    for page in pages:
        text = page.read_text("utf-8")
        # A card begins with its metadata, in YAML.
        body = text.split("---\n", 2)[2] if text.startswith("---\n") else text
        elements = Elements(MarkdownIt("commonmark").enable("table").render(body), pictures=False)
        assert elements.found == [], page
        assert "\x1b" not in text, page
        assert "\u202e" not in text, page
        shown += elements.text
    assert IMAGE in shown


def test_a_terminal_is_told_nothing_by_a_name(hostile_run: tuple[Path, str]) -> None:
    said = hostile_run[1]
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\\x1b[2J\\u202eb" in said
    assert IMAGE in said
