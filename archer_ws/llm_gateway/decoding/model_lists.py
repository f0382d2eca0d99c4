"""Reads lists of models, whatever their shape. Pure."""

from typing import Any, TypeGuard

from archer_ws.core.limits import PROVIDER_MODELS
from archer_ws.llm_gateway.decoding.completion import ErrorReported, TooLarge, Unreadable
from archer_ws.llm_gateway.decoding.error_bodies import is_error
from archer_ws.llm_gateway.decoding.json_documents import LineTooLong, decode_json

#: The fields that may contain the list: OpenAI and Anthropic, Ollama and Google, others.
_LISTS = ("data", "models", "items", "results", "model_list")
#: The fields that may contain a model's name for requests.
_NAMES = ("id", "name", "model", "model_name", "slug")


def entries_in(data: bytes) -> list[dict[str, Any]]:
    """Like `entries_of`, for an undecoded list."""
    try:
        return entries_of(decode_json(data))
    except LineTooLong as error:
        raise TooLarge(str(error)) from error
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable("something that is not JSON") from error


def entries_of(found: object) -> list[dict[str, Any]]:
    """The entries of a list of models, each with a text `id`. Entries without a name, and repeated names, are left out.

    Raises:
        ErrorReported: it is an error with a status of 200.
        Unreadable: it is not a list of models.
        TooLarge: it has too many entries.
    """
    listed = _list_in(found)
    for said in [found] if listed is None else [found, *listed[:1]]:
        if isinstance(said, dict) and is_error(said, is_named=listed is not None):
            raise ErrorReported(said)
    if listed is None:
        raise Unreadable("something other than a list of models")
    if len(listed) > PROVIDER_MODELS:
        raise TooLarge(f"a list of more than {PROVIDER_MODELS} models")
    entries: dict[str, dict[str, Any]] = {}
    for item in listed:
        entry = {"id": item} if isinstance(item, str) else item
        if isinstance(entry, dict):
            name = next((entry[key] for key in _NAMES if is_name(entry.get(key))), None)
            if name:
                entries.setdefault(name, {**entry, "id": name})
    return list(entries.values())


def is_name(value: object) -> TypeGuard[str]:
    """Whether it is a text that requests and responses can contain: not empty, and without half of a character."""
    if not isinstance(value, str):
        return False
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False


def _list_in(found: object) -> list[object] | None:
    # Together sends the list bare.
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        return None
    for key in _LISTS:
        inner = found.get(key)
        if isinstance(inner, list):
            return inner
        if isinstance(inner, dict):
            # An object by names; or the list is one level deeper.
            return _list_in(inner) if any(name in inner for name in _LISTS) else _by_name(inner)
    return None


def _by_name(models: dict[str, Any]) -> list[object]:
    return [{**facts, "id": name} if isinstance(facts, dict) else name for name, facts in models.items()]
