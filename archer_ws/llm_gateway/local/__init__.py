"""The local model's process."""
