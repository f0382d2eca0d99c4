"""`archer-ws chat` on a screen."""
