"""The one session manager every endpoint shares: streams with their logs, conversations, limits."""
