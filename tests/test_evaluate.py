import pytest
import torch

from adamergex.evaluate import choice_log_likelihoods, predict
from adamergex.items import Item
from adamergex.model import Workbench

CHOICES = (" a", " ab", " abc", " b", " 犬", " ax")
ITEMS = [Item(str(i), f"{'question ' * (i % 3)}{i}:", CHOICES[i % 6], CHOICES) for i in range(7)]


def naive(workbench: Workbench, item: Item) -> list[float]:
    """One plain forward pass for each choice, log-softmax over everything, in float64."""
    scores = []
    for choice in item.choices:
        prompt = workbench.tokenizer.encode(item.prompt)
        ids = workbench.tokenizer.encode(item.prompt + choice)
        with torch.no_grad():
            log_p = workbench.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        scores.append(sum(float(log_p[i - 1, ids[i]]) for i in range(len(prompt), len(ids))))
    return scores


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_log_likelihoods_equal_one_plain_pass_for_each_choice(workbench: Workbench, batch_size: int) -> None:
    workbench.start(0)
    with torch.inference_mode():
        found = choice_log_likelihoods(workbench, ITEMS, batch_size)
    for item, of_item in zip(ITEMS, found, strict=True):
        assert of_item == pytest.approx(naive(workbench, item), abs=1e-4)


def test_choices_of_one_token_cost_one_sequence_for_each_item(workbench: Workbench) -> None:
    seen: list[tuple[int, int]] = []
    items = [Item(str(i), f"{i}:", "a", ("a", "b", "c", "d")) for i in range(6)]
    predict(workbench, items, 4, 8, lambda done, total: seen.append((done, total)))
    assert seen == [(4, 6), (6, 6)]


def test_the_likeliest_choice_is_the_prediction(workbench: Workbench) -> None:
    for item, prediction in zip(ITEMS, predict(workbench, ITEMS, 3, 8), strict=True):
        scores = naive(workbench, item)
        assert prediction.id == item.id
        assert prediction.prediction == item.choices[scores.index(max(scores))].strip()
        assert prediction.correct == (prediction.prediction == item.answer.strip())


def test_generation_does_not_depend_on_the_batch(workbench: Workbench) -> None:
    workbench.start(0)
    items = [Item(str(i), f"{'words ' * (i % 4)}{i}:", " x") for i in range(6)]
    one = [prediction.prediction for prediction in predict(workbench, items, 1, 6)]
    many = [prediction.prediction for prediction in predict(workbench, items, 6, 6)]
    ids = workbench.tokenizer(items[3].prompt, return_tensors="pt")["input_ids"]
    plain = workbench.model.generate(input_ids=ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    text = workbench.tokenizer.decode(plain, skip_special_tokens=True)
    assert one == many
    assert one[3] == next((line.strip() for line in text.splitlines() if line.strip()), "")
