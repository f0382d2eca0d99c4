"""Checks whether a text is JSON that a client's schema accepts. Both come from outside, and may be hostile."""
