"""Recognises that the current folder no longer exists, which whoever needs a whole path learns as a missing file."""

import os


def is_told_gone(error: OSError) -> bool:
    """Whether this is what an error says. Such an error names no file; nor do others, like that of a missing file of
    certificates."""
    if not isinstance(error, FileNotFoundError) or error.filename is not None:
        return False
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() would make a path of it
    except FileNotFoundError:
        return True
    return False
