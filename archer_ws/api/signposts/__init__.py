"""Clients of other APIs that use a wrong address: recognises whose they are, and tells them the right one."""
