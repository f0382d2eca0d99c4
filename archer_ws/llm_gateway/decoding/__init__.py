"""Framing, and what all decoders share."""
