"""The resident base model and its adapter slot; items as token sequences; logits where they are needed."""
