"""Decodes JSON from clients, over HTTP and the socket alike.

`json.loads` accepts lone surrogates, NaN, UTF-16 and thousands of nested lists. Each of them fails later, where it
would look like a failure of the server.
"""

import codecs
import json
from typing import Any, NoReturn, TypeAlias

import msgspec
from pydantic_core import from_json

from archer_ws.core.exceptions import ContentTooLarge, FieldError, InvalidParams, ParseError
from archer_ws.core.json_values import has_more_values
from archer_ws.core.limits import REQUEST_VALUES_MAX

#: A value's place: the place around it, and its key or index there. Paths are built only when one is reported:
#: otherwise a long key above a long list would be copied for each item.
_Place: TypeAlias = tuple["_Place | None", str | int]

#: The limit of a path's length in an error: it contains the client's keys.
_MAX_PATH_CHARS = 200
_READ: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
_HINT = "Send valid JSON in UTF-8 (RFC 8259), without NaN or Infinity."


def decode_json(body: bytes, values_max: int | None = REQUEST_VALUES_MAX) -> Any:
    """The JSON of a body or a frame as Python values; its texts are whole Unicode scalars (protocol section 1).

    Args:
        values_max: the limit of its values; None for a file, whose reader nobody waits for.

    Raises:
        ParseError: it is not JSON in UTF-8; or it has more than 200 levels of nesting, NaN, or a number of more than
            4,300 digits.
        ContentTooLarge: it has more than `values_max` values.
        InvalidParams: a text has a lone surrogate; `errors` has its path.
    """
    # RFC 8259 lets a parser ignore a byte order mark; some Windows tools write one.
    body = body.removeprefix(codecs.BOM_UTF8)
    if values_max is not None and len(body) > values_max and has_more_values(body, values_max):
        _refuse_large(body, values_max)
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


def _refuse_large(body: bytes, values_max: int) -> NoReturn:
    """Raise the error for too many values; or that it is not JSON, which is found without building values."""
    try:
        _READ.decode(body)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"not valid JSON: {error}", hint=_HINT) from None
    raise ContentTooLarge(
        f"the JSON has more than {values_max} values",
        hint="Send fewer messages, or fewer and larger parts, at a time.",
    )


def _path_of_lone_surrogate(body: bytes) -> str | None:
    """The path of a text that UTF-8 can't encode; None if there is none."""
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    waiting: list[tuple[_Place | None, Any]] = [(None, value)]
    while waiting:
        place, value = waiting.pop()
        match value:
            case str() if not _is_whole(value):
                return _path(place)
            case list():
                waiting += [((place, index), inner) for index, inner in enumerate(value)]
            case dict():
                if not all(map(_is_whole, value)):
                    return _path(place)
                waiting += [((place, key), inner) for key, inner in value.items()]
    return None


def _path(place: _Place | None) -> str:
    parts: list[str] = []
    while place is not None:
        place, step = place
        parts.append(str(step)[:_MAX_PATH_CHARS])
    return ".".join(reversed(parts))[:_MAX_PATH_CHARS] or "body"


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
