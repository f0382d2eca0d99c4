"""Ollama's API: client, decoder, models, failures."""
