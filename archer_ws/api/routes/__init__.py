"""The HTTP routes, one module per subject. They translate; the session manager and the router do the work."""
