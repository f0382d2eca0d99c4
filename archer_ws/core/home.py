"""Paths that people write with `~` for a home folder."""

from pathlib import Path


def with_home(path: str | Path) -> Path:
    """The path with the home folder instead of a leading `~`; as it is where nobody knows which folder that is, as
    shells have it. The settings refuse such a path (config_values.py)."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
