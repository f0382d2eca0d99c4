"""OpenAI's chat completions: client, request, decoder, failures; and in responses/ its newer API."""
