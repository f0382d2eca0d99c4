"""Archer AI Engine: one chat sidecar in front of many language models."""

__version__ = "0.1.0"
