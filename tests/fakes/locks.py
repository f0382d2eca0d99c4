"""File systems without locks, as some network drives."""

import errno
import os

import pytest


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no file can be locked."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refused)
