"""Load: what the server takes, and what it keeps of it. By hand, but for the small ones that the suite runs."""
