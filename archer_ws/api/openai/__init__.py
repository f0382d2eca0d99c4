"""OpenAI's dialect: reads its requests, writes its responses and errors."""
