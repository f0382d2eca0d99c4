"""The connections to providers."""
