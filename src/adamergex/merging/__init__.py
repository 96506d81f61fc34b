"""Merging adapters into one. Read `methods.adamergex` first: the paper's equations, and an example of a method."""
