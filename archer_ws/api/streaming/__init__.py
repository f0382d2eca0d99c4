"""A stream's events as server-sent events and as whole completions."""
