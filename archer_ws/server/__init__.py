"""uvicorn as `archer-ws serve` runs it: listening, limits, keepalive, deadlines, draining. Does not import FastAPI."""
