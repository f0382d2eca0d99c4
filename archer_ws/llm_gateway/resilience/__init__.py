"""Retries, and the limits of waiting."""
