"""`archer-ws doctor`: checks what `serve` would use, and reports what is wrong and what to do."""
