"""Rows → items: tasks, prompts, presets; one file for each benchmark."""
