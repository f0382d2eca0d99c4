"""Identifiers: their form (protocol section 1), and how the server generates them."""

import os
import re
from base64 import urlsafe_b64encode

#: Stream, session and request ids: 1-64 of these characters. Clients may choose them.
ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_valid_id(value: str) -> bool:
    """Whether a client's id has the protocol's form."""
    return _ID.fullmatch(value) is not None


#: These have the form, but clients and proxies remove them from a URL's path, also where they are encoded (RFC 3986,
#: section 5.2.4): what has such an id is unreachable over REST, and a request that names it is one about what is above.
DOT_SEGMENTS = frozenset({".", ".."})

#: The bytes of an id's random part, and its characters: base64 without padding.
_RANDOM_BYTES, _RANDOM_CHARS = 15, 20
#: How many random parts the system is asked for at once: each time is a system call.
_PARTS = 64
#: The random parts of the next ids.
_parts: list[str] = []

if hasattr(os, "register_at_fork"):
    # Otherwise both processes would generate the same ids.
    os.register_at_fork(after_in_child=_parts.clear)


def new_id(prefix: str) -> str:
    """A new id such as `str_9mK3…`, with 120 random bits from the system: it can't be guessed, so it can serve as an
    idempotency key. Usable from any thread, and after a fork."""
    while True:
        try:
            return f"{prefix}_{_parts.pop()}"
        except IndexError:
            text = urlsafe_b64encode(os.urandom(_RANDOM_BYTES * _PARTS)).decode()
            _parts.extend([text[at : at + _RANDOM_CHARS] for at in range(0, len(text), _RANDOM_CHARS)])
