"""JSON as clients may send it, over HTTP and the socket alike.

`json.loads` takes lone surrogates, NaN, UTF-16 and thousands of nested lists; each of them breaks later, where it can
only be our failure.
"""

import codecs
import json
from typing import Any

from pydantic_core import from_json

from archer_ws.core.exceptions import FieldError, InvalidParams, ParseError

_HINT = "Send valid JSON in UTF-8 (RFC 8259), without NaN or Infinity."


def decode_json(body: bytes) -> Any:
    """A body's or a frame's JSON as Python values, whose text is whole Unicode scalars (protocol section 1).

    Raises:
        ParseError: it is not JSON in UTF-8; or it is nested more than 200 deep, has NaN, or a number of more than
            4,300 digits.
        InvalidParams: it is, but some text has a lone surrogate; `errors` says where.
    """
    # RFC 8259 lets a parser ignore a byte order mark; some Windows tools put one.
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        path = _path_of_lone_surrogate(body)
        if path is None:
            raise ParseError(f"not valid JSON: {error}", hint=_HINT) from None
    message = "a lone surrogate; send whole Unicode characters (a surrogate pair together)"
    raise InvalidParams(
        f"{path}: {message}",
        hint="Correct what `errors` names.",
        errors=[FieldError(path=path, message=message)],
    )


def _path_of_lone_surrogate(body: bytes) -> str | None:
    """Where the first text is that UTF-8 cannot carry; None where it is not this that ails the body."""
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, value = waiting.pop()
        match value:
            case str() if not _is_whole(value):
                return path or "body"
            case list():
                waiting += [(f"{path}.{index}".lstrip("."), inner) for index, inner in enumerate(value)][::-1]
            case dict():
                if not all(map(_is_whole, value)):
                    return path or "body"
                waiting += [(f"{path}.{key}".lstrip("."), inner) for key, inner in value.items()][::-1]
    return None


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
