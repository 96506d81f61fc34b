"""Delivered adapters for others: their card, and their publication on the Hugging Face hub."""
