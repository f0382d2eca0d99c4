"""Tells PyInstaller what belongs to this package, so that a program which imports it can be frozen without options.

PyInstaller finds this folder by the entry point `pyinstaller40` in pyproject.toml, and `hook-archer_ws.py` in it
(PyInstaller's manual, "Providing PyInstaller Hooks with your Package"). Nothing else imports it.
"""

from pathlib import Path


def hook_folders() -> list[str]:
    """The folders with hooks: this one."""
    return [str(Path(__file__).parent)]
