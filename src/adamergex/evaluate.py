"""An adapter × items → predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from adamergex.encode import answered, classified
from adamergex.examples import Example, batches_by_length
from adamergex.forward import target_logits
from adamergex.items import Item
from adamergex.model import Workbench
from adamergex.scoring.texts import folded


@dataclass(frozen=True)
class Prediction:
    """What a model answered to an item, and whether that is right."""

    id: str
    prediction: str
    answer: str
    correct: bool


def predict(
    workbench: Workbench,
    items: Sequence[Item],
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> list[Prediction]:
    """Answer items with whatever the workbench holds: by choice where there are choices, else by generation.

    Args:
        workbench: the model, in the state to be measured.
        items: all with choices, or all without.
        batch_size: sequences per forward pass.
        max_new_tokens: bound of a generated answer.
        on_batch: called with the number of sequences done and to be done.
    """
    if not items:
        return []
    workbench.model.eval()
    with torch.inference_mode():
        if items[0].choices:
            score = class_logits if workbench.kind == "classes" else choice_log_likelihoods
            scores = score(workbench, items, batch_size, on_batch)
            answers = [
                item.choices[max(range(len(of)), key=of.__getitem__)] for item, of in zip(items, scores, strict=True)
            ]
        else:
            answers = _generate(workbench, items, batch_size, max_new_tokens, on_batch)
    return [
        Prediction(item.id, answer.strip(), item.answer.strip(), _is_right(item, answer))
        for item, answer in zip(items, answers, strict=True)
    ]


def _is_right(item: Item, answer: str) -> bool:
    """A choice is right when it is the item's; a generated answer when it is equal but for what `folded` removes."""
    return answer == item.answer if item.choices else folded(answer) == folded(item.answer)


def class_logits(
    workbench: Workbench,
    items: Sequence[Item],
    batch_size: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[float]]:
    """What a classification head says of every item: for each, one logit for each choice."""
    examples = classified(workbench.tokenizer, items)
    scores: list[list[float]] = [[] for _ in items]
    done = 0
    for batch in batches_by_length(examples, batch_size):
        logits, _ = target_logits(workbench.model, [examples[i] for i in batch], workbench.pad, "classes")
        for i, row in zip(batch, logits.tolist(), strict=True):
            scores[i] = row
        done += len(batch)
        on_batch(done, len(examples))
    return scores


def choice_log_likelihoods(
    workbench: Workbench,
    items: Sequence[Item],
    batch_size: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[float]]:
    """Log p(choice | prompt) of every choice of every item, summed over all tokens of the choice.

    Choices whose tokens begin another sequence of the same item are read off that sequence: where all
    choices are single tokens, an item costs one pass over its prompt.

    Returns:
        For each item, one log-likelihood in nats for each choice.
    """
    pairs = [(item.prompt, choice) for item in items for choice in item.choices]
    prompts, choices = [prompt for prompt, _ in pairs], [choice for _, choice in pairs]
    encoded = iter(answered(workbench.tokenizer, prompts, choices, workbench.kind, workbench.decoder_start))
    # A read is (item, choice, sequence, position, token): the token's log-probability belongs to the choice's sum.
    sequences: list[list[int]] = []
    sources: list[tuple[int, ...]] = []
    reads: list[list[tuple[int, int, int, int]]] = []
    for i, item in enumerate(items):
        options = [next(encoded) for _ in item.choices]
        start = min(option.targets[0] for option in options)
        first_own = len(sequences)
        # The last token of a choice is predicted, never read.
        for option in sorted(options, key=lambda option: -len(option.ids)):
            if not any(held[: len(option.ids) - 1] == option.ids[:-1] for held in sequences[first_own:]):
                sequences.append(option.ids[:-1])
                sources.append(option.source)
                reads.append([])
        for c, option in enumerate(options):
            own = next(
                s for s in range(first_own, len(sequences)) if sequences[s][: len(option.ids) - 1] == option.ids[:-1]
            )
            reads[own] += [(i, c, position, option.ids[position]) for position in range(start, len(option.ids))]
    scores = [[0.0] * len(item.choices) for item in items]
    # A position is read once, however many choices look at it.
    # The token behind a sequence stands for whatever is predicted there; the forward pass does not read it.
    examples = [
        Example([*ids, workbench.pad], sorted({position for _, _, position, _ in of}), source=source)
        for ids, of, source in zip(sequences, reads, sources, strict=True)
    ]
    done = 0
    layout = workbench.layout(False, max(example.size for example in examples))
    for batch in batches_by_length(examples, batch_size):
        chosen = [examples[s] for s in batch]
        logits, _ = target_logits(workbench.model, chosen, workbench.pad, workbench.kind, layout)
        places = {
            (s, position): n for n, (s, position) in enumerate((s, p) for s in batch for p in examples[s].targets)
        }
        wanted = [(i, c, places[s, position], token) for s in batch for i, c, position, token in reads[s]]
        at = torch.tensor([place for _, _, place, _ in wanted], device=logits.device)
        token = torch.tensor([token for *_, token in wanted], device=logits.device)
        log_p = (logits[at, token] - logits.logsumexp(dim=-1)[at]).tolist()
        for (i, c, _, _), value in zip(wanted, log_p, strict=True):
            scores[i][c] += value
        done += len(batch)
        on_batch(done, len(examples))
    return scores


def _generate(
    workbench: Workbench,
    items: Sequence[Item],
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> list[str]:
    """Greedy answers; the first line that is not empty is the answer."""
    tokenizer = workbench.tokenizer
    encoded = tokenizer([item.prompt for item in items])["input_ids"]
    both = workbench.kind == "seq2seq"
    # An encoder reads its prompt to the end; a causal model goes on where the prompt stops.
    prompts = [Example(ids[:-1] if ids[-1] == tokenizer.eos_token_id and not both else ids, []) for ids in encoded]
    answers = [""] * len(items)
    done = 0
    for batch in batches_by_length(prompts, batch_size):
        width = max(len(prompts[i].ids) for i in batch)
        filling = [width - len(prompts[i].ids) for i in batch]
        ids = torch.tensor(
            [_sided(prompts[i].ids, [workbench.pad] * more, both) for i, more in zip(batch, filling, strict=True)]
        )
        mask = torch.tensor([_sided([1] * (width - more), [0] * more, both) for more in filling])
        device = workbench.model.device
        output = workbench.model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=workbench.pad,
            eos_token_id=tokenizer.eos_token_id,
        )
        if not both:
            output = output[:, width:]
        for i, text in zip(batch, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
            answers[i] = next((line for line in text.splitlines() if line.strip()), "")
        done += len(batch)
        on_batch(done, len(items))
    return answers


def _sided(own: list[int], filling: list[int], right: bool) -> list[int]:
    """A row filled up on its right or on its left."""
    return own + filling if right else filling + own
