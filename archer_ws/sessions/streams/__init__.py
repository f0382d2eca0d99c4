"""Streams: their states, their logs, the tool loop, and how long ended ones are retained."""
