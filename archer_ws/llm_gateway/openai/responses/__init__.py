"""OpenAI's Responses API: building requests and decoding responses."""
