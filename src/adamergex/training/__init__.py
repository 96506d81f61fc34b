"""Encoded examples → one adapter, and what a recipe says about it."""
