"""The recipe as a type: load, copy, check before anything runs; the shipped ones."""
