"""Delivered adapters for others: their card, their publication on the Hugging Face hub, and whole models with one in them."""
