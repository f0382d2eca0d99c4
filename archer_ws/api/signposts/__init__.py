"""Clients of other APIs at a wrong address: telling whose they are, and saying where to go."""
