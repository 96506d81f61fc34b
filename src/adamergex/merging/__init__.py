"""Adapters into one. Read `methods.adamergex` first: the paper's equations, and what a method consists of."""
