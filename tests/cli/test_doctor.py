"""`adamergex doctor`: what it says of versions, folders and the hub."""

import json
import sys
from pathlib import Path

import pytest

from adamergex.cli import doctor, main
from adamergex.cli.doctor import TRIED, Finding
from adamergex.models.machine import Machine

REQUIRES = ["torch>=2.6", "numpy>=2.0", "rich>=13.9", 'gguf>=0.17; extra == "demo"', 'winreg>=1; sys_platform == "no"']
THERE = {
    "torch": "2.7.0",
    "transformers": "5.1",
    "peft": "0.21",
    "accelerate": "1.2",
    "tokenizers": "0.22",
    "numpy": "2.1",
}


def by_name(found: object) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}  # type: ignore[attr-defined]


def test_versions_are_held_against_what_is_required() -> None:
    there = THERE | {"torch": "2.5.1", "transformers": "6.0.1"}
    found = by_name(doctor.versions(REQUIRES, there.get))
    assert found["torch"] == Finding("torch", "2.5.1", "problem", ">=2.6 is needed: pip install 'torch>=2.6'")
    assert found["numpy"] == Finding("numpy", "2.1")
    assert found["rich"] == Finding("rich", "not installed", "problem", "pip install 'rich>=13.9'")
    assert found["transformers"].status == "note"
    assert "pip install 'transformers<6'" in found["transformers"].advice
    assert found.keys() == TRIED.keys() | {"rich"}


def test_versions_are_held_against_each_other() -> None:
    needs = {"transformers": ["tokenizers<0.23,>=0.22", 'rich>99; extra == "dev"', "regex"], "peft": ["torch>=1.13"]}
    (found,) = doctor.together(lambda name: needs.get(name, []), THERE.get)
    assert (found.name, found.status) == ("together", "ok")
    (found,) = doctor.together(lambda name: needs.get(name, []), (THERE | {"tokenizers": "0.23.1"}).get)
    assert found == Finding(
        "transformers with tokenizers",
        "transformers 5.1 needs tokenizers<0.23,>=0.22, 0.23.1 is installed",
        "problem",
        "pip install 'tokenizers<0.23,>=0.22', or another transformers",
    )


def test_an_extra_of_extras_is_installed_where_all_of_those_are() -> None:
    requires = [*REQUIRES, "adamergex[demo]; extra == 'all'"]
    there = {"adamergex": "0.1.0"}
    (found,) = doctor.extras(requires, ["all"], there.get)
    (alone,) = doctor.extras(requires, ["demo"], there.get)
    assert found.value == alone.value
    assert found.value.startswith("not installed (without ")


def test_extras_are_installed_where_all_of_them_is() -> None:
    (found,) = doctor.extras(REQUIRES, ["demo"], {"gguf": "0.17.1"}.get)
    assert found == Finding("extra demo", "installed")
    for there in ({}, {"gguf": "0.16"}):
        (found,) = doctor.extras(REQUIRES, ["demo"], there.get)
        assert (found.value, found.status) == ("not installed (without gguf)", "ok")
        assert "pip install 'adamergex[demo]'" in found.advice


def test_the_hub_answers_or_not() -> None:
    asked: list[str] = []

    def reaches(address: str) -> str | None:
        asked.append(address)
        return "timed out" if "mirror" in address else None

    assert doctor.hub({"HF_HUB_OFFLINE": "1"}, reaches).value == "offline, by HF_HUB_OFFLINE"
    assert asked == []
    assert doctor.hub({"HF_HUB_OFFLINE": "0"}, reaches) == Finding("Hugging Face hub", "https://huggingface.co answers")
    found = doctor.hub({"HF_ENDPOINT": "https://mirror"}, reaches)
    assert (found.status, found.value) == ("note", "https://mirror does not answer: timed out")
    assert asked == ["https://huggingface.co", "https://mirror"]


def test_folders_need_space_and_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "not" / "there"
    found = doctor.folder("models", below, "HF_HOME")
    assert found.value.startswith(f"{below}: ")
    monkeypatch.setattr(doctor, "_LEAST_SPACE", 2**62)
    assert doctor.folder("models", below, "HF_HOME").status == "note"
    (tmp_path / "file").write_text("")
    assert doctor.folder("models", tmp_path / "file" / "deep", "HF_HOME") == Finding(
        "models", f"{tmp_path}/file/deep: cannot be written", "problem", "choose another place with HF_HOME"
    )


def test_a_gpu_that_torch_does_not_see_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("cpu", "", None, 16 * 2**30, 3 * 2**30, 4)
    for tool, status in ((None, "ok"), ("/usr/bin/nvidia-smi", "problem")):
        monkeypatch.setattr(doctor.shutil, "which", lambda name, tool=tool: tool)
        found = by_name(doctor._device(machine))
        assert found["device"].status == status
    assert found["memory"] == Finding(
        "memory", "3.0 of 16.0 GiB available", "note", "close other programs, or take a small base model"
    )


def test_the_command_reports_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["adamergex", "doctor", *arguments])
        with pytest.raises(SystemExit) as caught:
            main.main()
        shown = capsys.readouterr().out
        assert "transformers" in shown
    document = json.loads(shown)
    listed = document["findings"]
    problems = [one for one in listed if one["status"] == "problem"]
    assert [line.split(":")[0] for line in document["problems"]] == [one["name"] for one in problems]
    assert caught.value.code == (1 if problems else 0)
    assert {"Python", "torch", "together", "device", "memory", "models", "Hugging Face hub"} <= {
        one["name"] for one in listed
    }
