"""OpenAI's chat API: client, decoder, failures."""
