"""Choosing t: which adapters are points of one curve of scores by t."""
