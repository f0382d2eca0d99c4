"""OpenAI's dialect: reading its requests, writing its answers and errors."""
