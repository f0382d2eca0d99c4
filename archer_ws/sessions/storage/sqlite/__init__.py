"""Conversations in one SQLite file, by one connection in one thread."""
