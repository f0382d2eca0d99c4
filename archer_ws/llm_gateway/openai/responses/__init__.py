"""OpenAI's Responses API: what its requests say, and how its answers are decoded."""
