"""Anthropic's Messages API: client, request, decoder, failures."""
