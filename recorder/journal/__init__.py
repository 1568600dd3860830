"""Entries in, segments out, and back: the files that are the truth."""
