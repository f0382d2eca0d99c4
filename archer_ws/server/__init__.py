"""uvicorn as `archer-ws serve` runs it: listening, bounds, keepalive, deadlines, draining. Knows no FastAPI."""
