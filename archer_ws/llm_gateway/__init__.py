"""One interface for many language models: types, adapters, retries, and the router that picks an adapter."""
