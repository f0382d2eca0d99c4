"""The local model: its file, its process, and what goes to and from it."""
