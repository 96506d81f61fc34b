"""Whether a merged adapter can be served with vLLM, and which options that needs."""

from adamergex.merging.merge import Merged

# vLLM's own default, and the ranks that it can be set to.
VLLM_DEFAULT_RANK = 16
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def for_vllm(result: Merged) -> list[str]:
    """Notes on serving the folder with vLLM, a line each."""
    config, notes = result.config, []
    if result.schema.structure != "LoRA":
        return [f"vLLM serves LoRA; this is {result.schema.structure}: load it with PEFT"]
    schema = result.schema
    # A head may be there by the task_type alone.
    if config.get("modules_to_save") or schema.heads or schema.values or schema.updates:
        notes.append("vLLM loads no trained biases, tokens and whole modules (modules_to_save): load it with PEFT")
    if config["r"] > _VLLM_RANKS[-1]:
        notes.append(f"r = {config['r']} is more than vLLM takes ({_VLLM_RANKS[-1]}); choose a --rank")
    elif config["r"] > VLLM_DEFAULT_RANK:
        needed = next(rank for rank in _VLLM_RANKS if rank >= config["r"])
        notes.append(
            f"r = {config['r']} is above vLLM's default: serve it with --max-lora-rank {needed}, or merge with --rank "
            f"{VLLM_DEFAULT_RANK}"
        )
    return notes
