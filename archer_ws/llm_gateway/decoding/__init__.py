"""Splits responses into events and lines, and has what all decoders share."""
