"""What `archer-ws schema` writes: the guard against drift, and whether it can be used."""
