"""Rows from files, the hub and packages; plain text as windows of tokens."""
