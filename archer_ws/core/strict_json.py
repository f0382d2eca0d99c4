"""JSON as clients may send it, over HTTP and the socket alike.

`json.loads` takes lone surrogates, NaN, UTF-16 and thousands of nested lists; each of them breaks later, where it can
only be our failure.
"""

import codecs
import json
from typing import Any, NoReturn, TypeAlias

import msgspec
from pydantic_core import from_json

from archer_ws.core.exceptions import ContentTooLarge, FieldError, InvalidParams, ParseError
from archer_ws.core.json_values import has_more_values
from archer_ws.core.limits import REQUEST_VALUES_MAX

#: Where a value stands: the place around it, and its key or index there. Paths are spelled out only when one is told:
#: a long key above a long list would else be copied for each item.
_Place: TypeAlias = tuple["_Place | None", str | int]

#: The most of a path that is told: it holds the client's own keys.
_MAX_PATH_CHARS = 200
_READ: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
_HINT = "Send valid JSON in UTF-8 (RFC 8259), without NaN or Infinity."


def decode_json(body: bytes) -> Any:
    """A body's or a frame's JSON as Python values, whose text is whole Unicode scalars (protocol section 1).

    Raises:
        ParseError: it is not JSON in UTF-8; or it is nested more than 200 deep, has NaN, or a number of more than
            4,300 digits.
        ContentTooLarge: it has more than REQUEST_VALUES_MAX values.
        InvalidParams: it is, but some text has a lone surrogate; `errors` says where.
    """
    # RFC 8259 lets a parser ignore a byte order mark; some Windows tools put one.
    body = body.removeprefix(codecs.BOM_UTF8)
    if len(body) > REQUEST_VALUES_MAX and has_more_values(body, REQUEST_VALUES_MAX):
        _refuse_large(body)
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


def _refuse_large(body: bytes) -> NoReturn:
    """Say that it has too many values; or that it is no JSON, which is found without building any."""
    try:
        _READ.decode(body)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"not valid JSON: {error}", hint=_HINT) from None
    raise ContentTooLarge(
        f"the JSON has more than {REQUEST_VALUES_MAX} values",
        hint="Send fewer messages, or fewer and larger parts, at a time.",
    )


def _path_of_lone_surrogate(body: bytes) -> str | None:
    """Where there is text that UTF-8 cannot carry; None where it is not this that ails the body."""
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
