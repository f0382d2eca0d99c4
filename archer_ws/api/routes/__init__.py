"""The HTTP routes, one module a subject. They translate; the work is the session manager's and the router's."""
