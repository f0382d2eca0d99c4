"""OpenAI's chat completions: client, request, decoder, failures; and its newer API in responses/."""
