"""Identifiers: their form (protocol section 1), and how the server generates them."""

import re
from base64 import urlsafe_b64encode
from os import urandom

#: Stream, session and request ids: 1-64 of these characters. Clients may choose them.
ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_valid_id(value: str) -> bool:
    """Whether a client's id has the protocol's form."""
    return _ID.fullmatch(value) is not None


def new_id(prefix: str) -> str:
    """A new id such as `str_9mK3…`, with 120 random bits: it can't be guessed, so it can serve as an idempotency
    key."""
    # 15 bytes are 20 characters without padding.
    return f"{prefix}_{urlsafe_b64encode(urandom(15)).decode()}"
