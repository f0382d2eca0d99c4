"""One interface over many language models: types, adapters, retries, and the router that picks among them."""
