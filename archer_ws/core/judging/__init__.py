"""Whether a text is JSON that a client's schema takes. Schemas and texts come from anywhere, and may mean harm."""
