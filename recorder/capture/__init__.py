"""Sockets in, journal out: the hot side."""
