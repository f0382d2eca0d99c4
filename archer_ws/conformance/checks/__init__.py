"""The questions, one module a theme."""
