"""The conversation store in an SQLite file, with one connection in one thread."""
