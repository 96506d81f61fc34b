"""Scores of benchmark answers in any language and script: pure functions, no torch."""
