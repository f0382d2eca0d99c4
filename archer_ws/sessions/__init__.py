"""The session manager that all endpoints share: streams and their logs, conversations, limits."""
