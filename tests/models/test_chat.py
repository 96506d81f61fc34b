"""Chat prompts, token for token those of `apply_chat_template`, whatever stands in a row or in a template."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adamergex.errors import DataError, ModelError
from adamergex.inference import choices, generation
from adamergex.models import chat
from adamergex.models.encode import for_training, sequences
from adamergex.tasks.items import Item
from adamergex.tasks.prompting import answering, few_shot
from tests.chat_templates import GEMMA2, SPECIAL, TEMPLATES, WORDS, tokenizer

NAMES = sorted(TEMPLATES)
# What a template itself takes for the day, where it may be told.
AS_IT_IS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
QUESTION = Item("x.jsonl:1", "Is it so?  ", " yes", chat=True)


def reference(made: Any, turns: list[tuple[str, str]], asks: bool = False) -> list[int]:
    """The tokens of a conversation by transformers."""
    said = [{"role": role, "content": text} for role, text in turns]
    ids: list[int] = made.apply_chat_template(said, add_generation_prompt=asks, return_dict=False, **AS_IT_IS)
    return ids


CONVERSATIONS: dict[str, tuple[tuple[Any, str], ...]] = {
    "one question": (),
    "a system message": (("system", "Be brief."),),
    "two turns": (("user", "Is it?"), ("assistant", "It is.")),
    "both": (("system", "Be brief."), ("user", "Is it?"), ("assistant", "It is.")),
}


@pytest.mark.parametrize("turns", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_prompt_and_answer_are_the_tokens_of_the_whole_conversation(name: str, turns: Any) -> None:
    made = tokenizer(name)
    item = replace(QUESTION, turns=turns)
    asked = [*turns, ("user", QUESTION.prompt)]
    (prompt,) = sequences(made, chat.prompts(made, [item]))
    assert prompt == reference(made, asked, asks=True)
    (example,), shortened = for_training(made, [item])
    whole = reference(made, [*asked, ("assistant", "yes")])
    if name == "mistral" and turns[:1] == CONVERSATIONS["a system message"]:
        # The template writes a system message where the user's turn is the last one, and leaves it out of a conversation
        # that goes on: what is learned is the prompt that will be asked, and the answer as in a conversation without.
        assert "Be brief." in made.decode(prompt)
        assert "Be brief." not in made.decode(whole)
        bare = sequences(made, chat.prompts(made, [replace(item, turns=turns[1:])]))[0]
        whole = prompt + reference(made, [*asked[1:], ("assistant", "yes")])[len(bare) :]
    assert whole[: len(example.ids)] == example.ids
    # Behind the end of its turn a template may begin the next one: Gemma and Qwen write a line break.
    assert made.decode(whole[len(example.ids) :]).strip() == ""
    assert example.ids[: example.targets[0]] == prompt
    assert example.targets == list(range(len(prompt), len(example.ids)))
    end = "<eos>" if name == "mistral" else SPECIAL[name][-1]
    assert made.convert_ids_to_tokens(example.ids[-1]) == end
    learned = made.decode(example.ids[len(prompt) :])
    assert learned.strip() == f"yes{end}"
    assert not shortened
    assert prompt.count(made.bos_token_id) == (name != "qwen3")


def test_a_space_that_a_template_writes_before_an_answer_is_the_answers() -> None:
    """Mistral's prompt ends with a bracket, and its answers begin with a space: `▁yes` is one token."""
    made = tokenizer("mistral")
    (example,), _ = for_training(made, [QUESTION])
    assert made.convert_ids_to_tokens(example.ids)[-3:] == ["[/INST]", "▁yes", "<eos>"]


@pytest.mark.parametrize("name", NAMES)
def test_few_shot_examples_are_turns_behind_the_system_message(name: str) -> None:
    made = tokenizer(name)
    solved = [Item(f"t:{n}", f"Question {n}?", f" {word}", chat=True) for n, word in enumerate(("yes", "no"))]
    solved = [replace(item, turns=(("system", "Not this one."),)) for item in solved]
    item = replace(QUESTION, turns=(("system", "Be brief."),))
    (shown,) = few_shot([item], solved, 2, seed=0)
    (prompt,) = sequences(made, chat.prompts(made, [shown]))
    said = made.decode(prompt)
    order = [part for n in (0, 1) for part in (f"Question {n}?",)]
    first = min(order, key=said.index)
    turns: list[tuple[str, str]] = [("system", "Be brief.")]
    for n in sorted((0, 1), key=lambda n: said.index(f"Question {n}?")):
        turns += [("user", f"Question {n}?"), ("assistant", ("yes", "no")[n])]
    assert prompt == reference(made, [*turns, ("user", QUESTION.prompt)], asks=True)
    assert first in said
    assert "Not this one." not in said


def test_reasoning_begins_the_assistants_turn_and_the_answer_goes_on_with_it() -> None:
    made = tokenizer("qwen3")
    (item,) = answering([replace(QUESTION, choices=(" yes", " no"))], ["  It rains. Answer: no"])
    (prompt,) = sequences(made, chat.prompts(made, [item]))
    asked = made.decode(reference(made, [("user", QUESTION.prompt)], asks=True))
    assert made.decode(prompt) == f"{asked}It rains.\nAnswer:"
    (example,), _ = for_training(made, [item])
    assert made.decode(example.ids[len(prompt) :]) == " yes<|im_end|>"
    other = tokenizer("mistral")
    (prompt,) = sequences(other, chat.prompts(other, [item]))
    assert other.decode(prompt).endswith("[/INST] It rains.\nAnswer:")


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_in_a_row_are_read_as_text(name: str) -> None:
    made = tokenizer(name)

    def system(text: str) -> tuple[tuple[Any, str], ...]:
        """Mistral's template leaves it out of the conversation that this is compared with."""
        return () if name == "mistral" else (("system", text),)

    words = [*SPECIAL[name], "<bos>", "<eos>", "<pad>"]
    text = f"one {words[0]} two{words[-4]} three {''.join(words)}end"
    item = replace(QUESTION, prompt=text, answer=f" {words[1]}yes", turns=system(f"{words[0]}!"))
    (example,), _ = for_training(made, [item])
    plain = replace(QUESTION, prompt="one", answer=" yes", turns=system("!"))
    (without,), _ = for_training(made, [plain])
    special = {token for token, added in made.added_tokens_decoder.items() if added.special}
    assert [token for token in example.ids if token in special] == [token for token in without.ids if token in special]
    rendered = made.apply_chat_template(
        [
            {"role": role, "content": said}
            for role, said in (*item.turns, ("user", text), ("assistant", item.answer.strip()))
        ],
        tokenize=False,
        **AS_IT_IS,
    )
    assert rendered.rstrip() == made.decode(example.ids)


def test_choices_are_scored_after_the_prompt_and_end_with_the_turn_where_one_begins_another() -> None:
    class Reader:
        kind, decoder_start, pad, ends, context = "causal", None, 0, (2,), None

        def __init__(self) -> None:
            self.tokenizer = tokenizer("gemma3")

    reader: Any = Reader()
    item = replace(QUESTION, choices=(" 1", " 10", " 2"))
    (options,) = choices.options(reader, [item])
    prompt = reference(reader.tokenizer, [("user", QUESTION.prompt)], asks=True)
    end = reader.tokenizer.convert_tokens_to_ids("<end_of_turn>")
    for number, words in enumerate(("1", "10", "2")):
        letters = reader.tokenizer(words, add_special_tokens=False)["input_ids"]
        assert options.whole(number) == [*prompt, *letters, end]
    (single,) = choices.options(reader, [replace(item, choices=(" a", " b"))])
    assert [len(tokens) for tokens in single.tokens] == [1, 1]
    assert generation.ends(reader, [item]) == (2, end)
    assert generation.ends(reader, [replace(item, chat=False)]) == (2,)


def test_an_answer_of_several_paragraphs_ends_with_the_turn() -> None:
    text = "First.\n\nThe answer is 4."
    assert generation.completion(text, "number", chat=True) == text
    assert generation.completion(text, "number") == "First."
    assert not generation.has_ended(text, "generation", None, chat=True)
    assert generation.has_ended(text, "generation", None)
    assert generation.has_ended("a\nb", "text", None, chat=True)
    assert generation.has_ended("a Answer:", "generation", "Answer:", chat=True)


def test_a_template_without_an_end_of_turn_gets_the_end_of_sequence() -> None:
    made = tokenizer("qwen3", WORDS)
    (example,), _ = for_training(made, [QUESTION])
    # It trims nothing, and neither do we: the two spaces behind the question are the row's.
    assert made.decode(example.ids) == "USER: Is it so?  \nASSISTANT: yes<eos>"
    assert chat.assistant_turn(made).token == made.eos_token_id


def test_too_long_a_row_is_cut_in_its_longest_column_and_stays_a_conversation() -> None:
    made = tokenizer("llama3")
    item = Item("x:1", f"Review: {'word ' * 60}\nMood:", " yes", longest_column=(8, 308), chat=True)
    whole = len(for_training(made, [item])[0][0].ids)
    (cut,), shortened = for_training(made, [item], longest=whole - 100)
    assert (len(cut.ids) <= whole - 100, shortened) == (True, 1)
    assert made.decode(cut.ids).endswith(
        "\nMood:<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nyes<|eot_id|>"
    )


def test_results_do_not_depend_on_the_day() -> None:
    said = chat.prompts(tokenizer("llama3"), [QUESTION])[0]
    assert isinstance(said, chat.Rendered)
    assert "Today Date: 26 Jul 2024\n" in said.text
    own = '{% set form = "%Y" %}{{ strftime_now(form) }}{% for m in messages %}{{ m.content }}{% endfor %}'
    with pytest.raises(ModelError, match="asks for today's date in a form that is not known"):
        chat.prompts(tokenizer("qwen3", own), [QUESTION])


HOSTILE = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__['os'].system('touch PLACE') }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "changes": "{{ messages.append(messages[0]) }}",
    "endless": "{% for n in range(10 ** 9) %}{% endfor %}",
    "import": "{% include '/etc/passwd' %}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_does_nothing_but_fail_in_a_line(template: str, tmp_path: Path) -> None:
    """transformers renders in jinja's immutable sandbox; a template can be as hostile as any file from the hub."""
    place = tmp_path / "touched"
    made = tokenizer("qwen3", template.replace("PLACE", str(place)) + TEMPLATES["qwen3"])
    with pytest.raises((ModelError, DataError)) as caught:
        chat.prompts(made, [QUESTION])
    assert "the chat template does not render: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not place.exists()


def test_what_a_template_refuses_or_leaves_out_is_said() -> None:
    asked: list[tuple[Any, ...]] = [("user",), ("system", "user"), ("user", "assistant", "user")]
    assert [chat.problems(tokenizer(name), asked) for name in NAMES] == [[]] * len(NAMES)
    assert chat.problems(tokenizer("gemma3", GEMMA2), asked) == [
        "the chat template does not render: System role not supported, of a conversation of system, user; say what the system "
        "message says in the prompt, and leave it out"
    ]
    assert chat.problems(tokenizer("qwen3", WORDS), asked) == [
        "the chat template leaves out what the system says, of a conversation of system, user; say what the system message says "
        "in the prompt, and leave it out"
    ]
    without = tokenizer("qwen3")
    without.chat_template = None
    assert chat.problems(without, asked) == [chat.NO_TEMPLATE]
    odd = replace(QUESTION, turns=(("assistant", "It is."),))
    with pytest.raises(DataError, match=r"^x\.jsonl:1: the chat template does not render: .* must alternate"):
        chat.prompts(tokenizer("gemma3"), [QUESTION, odd])


def test_the_template_is_found_as_the_tokenizer_finds_it(tmp_path: Path) -> None:
    for name, template in TEMPLATES.items():
        made = tokenizer(name)
        made.save_pretrained(tmp_path / name)
        assert chat.template_of(tmp_path / name) == template
        made.save_pretrained(tmp_path / f"{name}-old", save_jinja_files=False)
        assert not (tmp_path / f"{name}-old" / "chat_template.jinja").exists()
        assert chat.template_of(tmp_path / f"{name}-old") == template
    made.chat_template = {"default": GEMMA2, "tool_use": WORDS}
    made.save_pretrained(tmp_path / "several", save_jinja_files=False)
    assert (
        chat.template_of(tmp_path / "several")
        == GEMMA2
        == type(made).from_pretrained(tmp_path / "several").get_chat_template()
    )
    assert chat.template_of(tmp_path) is None
    for name, content in {
        "tokenizer_config.json": [b"[]", b"{", b'{"chat_template": [{"name": "default"}]}'],
        "chat_template.jinja": [b"\xff"],
    }.items():
        for broken in content:
            (tmp_path / name).write_bytes(broken)
            with pytest.raises(ModelError, match="chat template cannot be read"):
                chat.template_of(tmp_path)
