"""The model card of a fused model: what it was made of and how, for whoever finds the folder."""

import json
from collections.abc import Mapping
from typing import Any

from adamergex.inference.usage import Usage
from adamergex.markdown import code, fenced, line, row
from adamergex.merging.model_card import CITATION, PACKAGED_NOTE, is_packaged


def card(facts: Mapping[str, Any], usage: Usage | None, warnings: list[str]) -> str:
    """The README.md of a fused model.

    Args:
        facts: as `fuse.json` has them.
        usage: how the model is asked; None where that is not known.
        warnings: what to know before use.
    """
    sections = [_front(facts), f"# {_title(facts)}", _opening(facts), _table(facts)]
    if warnings:
        sections += ["## Know before use", "\n".join(f"- {line(warning)}" for warning in warnings)]
    if usage is not None:
        prompt = json.dumps(usage.task.model_dump(mode="json", exclude_none=True), ensure_ascii=False, indent=2)
        sections += ["## The prompt it expects", fenced(prompt, "json")]
    sections += ["## Use", _use(facts, usage)]
    if is_packaged(facts):
        sections.append(PACKAGED_NOTE)
    if facts["trust_remote_code"]:
        sections.append("Python code that comes with the base model was allowed to run (`--trust-remote-code`).")
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    sections += [f"Made with {versions}. The base model's terms hold for this one, too.", CITATION]
    return "\n\n".join(sections) + "\n"


def _front(facts: Mapping[str, Any]) -> str:
    # The hub accepts only its own model ids as base_model.
    base = [] if is_packaged(facts) else [f"base_model: {json.dumps(facts['base_model'])}"]
    language = [f"language: [{json.dumps(facts['language'])}]"] if facts["language"] else []
    lines = ["---", *base, "base_model_relation: finetune", "library_name: transformers", *language]
    return "\n".join([*lines, "tags: [adamergex]", "---"])


def _title(facts: Mapping[str, Any]) -> str:
    return "A base model with an adapter folded in" + (
        f", for {line(str(facts['language']))}" if facts["language"] else ""
    )


def _opening(facts: Mapping[str, Any]) -> str:
    how = f" ({line(str(facts['method']))}, t = {line(str(facts['scale']))})" if facts["method"] else ""
    return (
        f"{code(facts['base_model'])} with the {facts['structure']} adapter {code(facts['adapter'])}{how} folded into its weights by PEFT's "
        f"`merge_and_unload`, in float32, and stored in {facts['dtype']}. It is a whole model, which needs neither PEFT nor the "
        "adapter."
    )


def _table(facts: Mapping[str, Any]) -> str:
    rows = [
        ("base model's weights", code(facts["weights"])),
        ("SHA-256 of adapter_model.safetensors", code(facts["sha256"])),
        ("what rounding changes, of what the adapter changes", f"{facts['rounding']:.2%}"),
    ]
    if facts["untied"]:
        rows.append(("input and output embeddings", "one matrix in the base model, two in this one"))
    return "| | |\n|---|---|\n" + "\n".join(row((key, value)) for key, value in rows)


def _use(facts: Mapping[str, Any], usage: Usage | None) -> str:
    allowed = ", trust_remote_code=True" if facts["trust_remote_code"] else ""
    shown = f"""```python
from transformers import {facts["auto_class"]}, AutoTokenizer

model = {facts["auto_class"]}.from_pretrained("PATH OF THIS FOLDER", dtype="auto"{allowed})
tokenizer = AutoTokenizer.from_pretrained("PATH OF THIS FOLDER"{allowed})
```"""
    if usage is None:
        return shown
    return f"{shown}\n\n```\nadamergex predict 'PATH OF THIS FOLDER' rows.csv\n```"
