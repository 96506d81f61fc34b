"""Choosing t: tables of scores and of what is known before scoring."""
