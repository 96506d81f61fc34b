"""Templates of commands, rendered: every intent, no item in two splits, the same again."""

import json

import pytest

from adamergex.data import packaged, voice_commands
from adamergex.errors import DataError

pytest.importorskip("hassil")
pytest.importorskip("home_assistant_intents")

TEMPLATES = json.dumps(
    {
        "language": "en",
        "intents": {
            "HassTurnOn": {"data": [{"sentences": ["(switch|turn) on [the] {area} <lights>", "play {anything}"]}]},
            "HassTurnOff": {"data": [{"sentences": ["turn off the lamp", "stop"]}]},
            "HassMediaPause": {"data": [{"sentences": ["stop", "Stop!"]}]},
            "HassStartTimer": {"data": [{"sentences": ["{minutes} minutes"]}]},
        },
        "lists": {"anything": {"wildcard": True}, "minutes": {"range": {"from": 1, "to": 3}}},
        "expansion_rules": {"lights": "(light|lamp)[s]"},
    }
)


def test_a_template_stands_for_its_commands() -> None:
    rows = [row for split in ("train", "dev", "test") for row in voice_commands.rows(TEMPLATES, "en", split)]
    by_intent: dict[str, set[str]] = {}
    for row in rows:
        by_intent.setdefault(row["intent"], set()).add(row["text"])
    areas = ("Studio", "Loft", "Atelier")
    on = {f"{verb} on {the}{area} {light}" for verb in ("switch", "turn") for the in ("the ", "") for area in areas
          for light in ("light", "lights", "lamp", "lamps")}  # fmt: skip
    # "stop" has two intents, so no answer; what stands for any text at all is left out.
    assert by_intent == {
        "turn on": on,
        "turn off": {"turn off the lamp"},
        "start timer": {"1 minutes", "2 minutes", "3 minutes"},
    }
    assert len(rows) == len({row["text"] for row in rows})


@pytest.mark.parametrize("language", ["en", "sl", "lv", "pt-BR"])
def test_the_packages_commands_are_split_by_their_words(language: str) -> None:
    splits = {
        split: list(packaged.rows("home-assistant-intents", language, split)) for split in ("train", "dev", "test")
    }
    assert splits == {
        split: list(packaged.rows("home-assistant-intents", language, split)) for split in ("train", "dev", "test")
    }
    texts = [row["text"] for rows in splits.values() for row in rows]
    assert len(texts) == len(set(texts)) > 900
    for name, share in (("train", 0.4), ("dev", 0.2), ("test", 0.4)):
        assert len(splits[name]) / len(texts) == pytest.approx(share, abs=0.05)
    counts = {
        name: sum(row["intent"] == name for rows in splits.values() for row in rows)
        for name in voice_commands.INTENTS.values()
    }
    assert max(counts.values()) <= voice_commands.COMMANDS
    assert not [text for text in texts if "{" in text or "<" in text or "|" in text]


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match="has no split 'all'"):
        list(voice_commands.rows(TEMPLATES, "en", "all"))
    with pytest.raises(DataError, match="has no data in 'yo'; it has af, ar, "):
        packaged.rows("home-assistant-intents", "yo", "test")
