"""Connections to providers, and requests over them."""
