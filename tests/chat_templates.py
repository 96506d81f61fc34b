"""Chat templates of the kinds that well-known checkpoints have, reduced to text, and tokenizers that know their tokens."""

from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from tests.conftest import byte_tokenizer, tiny_llama

# Llama 3.2: the day stands in every prompt; what is said is trimmed.
LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- set system = messages[0].content | trim if messages[0].role == "system" else "" %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: " + date_string }}
{{- "\\n\\n" + system + "<|eot_id|>" }}
{%- for message in messages if message.role != "system" %}
    {{- "<|start_header_id|>" + message.role + "<|end_header_id|>\\n\\n" + message.content | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}"""
# Gemma 3: no system role; what it would say begins the first user's turn. Roles have to alternate.
GEMMA3 = """\
{{- bos_token }}
{%- set ns = namespace(prefix="", said=messages) %}
{%- if messages[0].role == "system" %}
    {%- set ns.prefix = messages[0].content + "\\n\\n" %}
    {%- set ns.said = messages[1:] %}
{%- endif %}
{%- for message in ns.said %}
    {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {{- "<start_of_turn>" + ("model" if message.role == "assistant" else message.role) + "\\n" }}
    {{- (ns.prefix if loop.first else "") + message.content | trim + "<end_of_turn>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<start_of_turn>model\\n" }}
{%- endif %}"""
# Gemma 2: the same, and a system message is an error.
GEMMA2 = '{% if messages[0].role == "system" %}{{ raise_exception("System role not supported") }}{% endif %}' + GEMMA3
# Qwen 3: a thinking block before the last answer, empty where there is none, and in the prompt only if it is asked for.
QWEN3 = """\
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\\n" }}
    {%- if message.role == "assistant" and loop.last %}
        {{- "<think>\\n\\n</think>\\n\\n" }}
    {%- endif %}
    {{- message.content + "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- "<think>\\n\\n</think>\\n\\n" }}
    {%- endif %}
{%- endif %}"""
# Mistral 7B v0.3: a space before the answer that the prompt does not end with; the system message in the last user's turn.
MISTRAL = """\
{{- bos_token }}
{%- set system = messages[0].content if messages[0].role == "system" else "" %}
{%- set said = messages[1:] if system else messages %}
{%- for message in said %}
    {%- if message.role == "user" %}
        {{- "[INST] " + (system + "\\n\\n" if system and loop.last else "") + message.content + "[/INST]" }}
    {%- else %}
        {{- " " + message.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}"""
# Vicuna's kind: all in words, an end-of-sequence token after an answer, and nothing about system messages.
WORDS = """\
{%- for message in messages if message.role != "system" %}
    {{- message.role | upper + ": " + message.content + "\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "ASSISTANT: " }}{%- endif %}"""

TEMPLATES = {"llama3": LLAMA3, "gemma3": GEMMA3, "qwen3": QWEN3, "mistral": MISTRAL}
SPECIAL = {
    "llama3": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "gemma3": ["<start_of_turn>", "<end_of_turn>"],
    "qwen3": ["<|im_start|>", "<|im_end|>"],
    "mistral": ["[INST]", "[/INST]"],
}


def tokenizer(name: str, template: str | None = None) -> transformers.PreTrainedTokenizerFast:
    """One of the kind, which puts its beginning-of-sequence token before a text, as Llama's, Gemma's and Mistral's do."""
    made = pieces() if name == "mistral" else byte_tokenizer()
    made.add_tokens(SPECIAL[name], special_tokens=True)
    if name == "qwen3":
        # Qwen's tokenizers know a thinking block's ends, but do not take them for special.
        made.add_tokens(["<think>", "</think>"])
    made.chat_template = template or TEMPLATES[name]
    return made


def pieces() -> transformers.PreTrainedTokenizerFast:
    """SentencePiece's way, as Mistral's and Gemma's: a space belongs to what follows, and one stands before a text."""
    vocabulary = [
        ("<pad>", 0.0),
        ("<bos>", 0.0),
        ("<eos>", 0.0),
        ("<unk>", 0.0),
        ("▁yes", -1.0),
        ("▁answer", -1.0),
        ("]", -2.0),
    ]
    vocabulary += [(chr(code), -9.0) for code in range(33, 127) if chr(code) != "]"] + [("▁", -8.0), ("\n", -8.0)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def save(name: str, folder: Path, template: str | None = None) -> Path:
    """A tiny Llama with such a tokenizer."""
    tiny_llama(0, 300).save_pretrained(folder)
    tokenizer(name, template).save_pretrained(folder)
    return folder
