"""A tiny model of each family with its tokenizer, as folders that recipes name."""

from pathlib import Path

import torch
import transformers
from tokenizers import processors

from tests.conftest import byte_tokenizer

SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT = SMALL | {
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
LLAMA = BERT | {"num_key_value_heads": 2, "max_position_embeddings": 512}
MODELS: dict[str, transformers.PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**LLAMA),
    "gemma3": transformers.Gemma3TextConfig(**LLAMA, head_dim=8, sliding_window=16),
    "gpt2": transformers.GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2, initializer_range=0.2
    ),
    "bloom": transformers.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
    "t5": transformers.T5Config(
        vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    ),
    "bart": transformers.BartConfig(
        vocab_size=300,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        init_std=0.2,
    ),
    "xlm-r": transformers.XLMRobertaConfig(**BERT),
    "bert": transformers.BertConfig(**BERT),
}
FAMILY = {"t5": "seq2seq", "bart": "seq2seq", "xlm-r": "encoder", "bert": "encoder"}
AUTO = {
    "causal": transformers.AutoModelForCausalLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
    "encoder": transformers.AutoModelForMaskedLM,
}


def tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
    made = byte_tokenizer()
    made.model_max_length = 512
    if name == "t5":
        made.add_tokens([f"<extra_id_{i}>" for i in range(12)], special_tokens=True)
    elif name == "bart":
        made.add_special_tokens({"mask_token": "<mask>"})
    elif name in FAMILY:
        made.add_special_tokens({"mask_token": "<mask>", "cls_token": "<bos>", "sep_token": "<eos>"})
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>",
            pair="<bos> $A <eos> $B:1 <eos>:1" if name == "bert" else "<bos> $A <eos> <eos> $B <eos>",
            special_tokens=[("<bos>", 1), ("<eos>", 2)],
        )
    return made


def save(name: str, folder: Path) -> Path:
    """The model and its tokenizer."""
    torch.manual_seed(0)
    model = AUTO[FAMILY.get(name, "causal")].from_config(MODELS[name])
    model.save_pretrained(folder)
    tokenizer(name).save_pretrained(folder)
    return folder
