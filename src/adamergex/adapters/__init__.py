"""PEFT folders without their model: read, check, write, compare."""
