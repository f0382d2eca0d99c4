"""Uploaded files: what they may be, where they are kept, and for how long."""
