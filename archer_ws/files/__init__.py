"""Uploaded files: which types are accepted, where they are stored, and for how long."""
