"""Retries, time limits, and changing requests to what servers accept."""
