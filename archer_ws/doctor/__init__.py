"""`archer-ws doctor`: looks at what `serve` would use, and says what is wrong and what to do."""
