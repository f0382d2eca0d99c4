"""What the models of the wire share: missing fields, whole Unicode text, ids, and errors with a path."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import is_
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from archer_ws.core.exceptions import FieldError, InvalidParams, RequestError, Unsupported
from archer_ws.core.ids import ID_PATTERN

#: The type of validation errors for fields that are valid but not supported.
_UNSUPPORTED: Final = "unsupported"
#: The limit of field errors in one response.
MAX_FIELD_ERRORS = 20
_MAX_PATH_CHARS = 200
#: Called for each such field of each response: no frame of Python.
_is_none = partial(is_, None)


def _whole_scalars(text: str) -> str:
    """Refuse lone surrogates: JSON can encode them, UTF-8 can't (protocol section 1)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is a lone surrogate; send whole Unicode characters (a surrogate pair together)"
        ) from None
    return text


def optional(description: str, **extra: Any) -> Any:
    """A field that the protocol adds: absent from the wire if it is None."""
    return Field(default=None, exclude_if=_is_none, description=description, **extra)


class WireModel(BaseModel):
    """The base of what clients send: a field that is null counts as missing (protocol section 1)."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = cls._prepared(given)
        return {name: value for name, value in given.items() if value is not None} if None in given.values() else given

    @classmethod
    def _prepared(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The object before nulls are dropped and its fields validated: where a subclass checks or changes the whole of
        it. Further validators would cost every object a call from pydantic."""
        return given


def _no_boolean(given: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0: a limit of 1 token is not what anybody meant."""
    if given is True or given is False:
        raise PydanticCustomError("number_type", "Input should be a number, not a boolean")
    return given


#: For each field that is a number, beside its bounds: `Annotated[int | None, Field(ge=1), NUMBER]`.
NUMBER: Final = BeforeValidator(_no_boolean)
#: Text of any length. With a bound, `str` is enough: pydantic then looks at the characters, and refuses what are none;
#: a bound on this type would be told in "items".
Text = Annotated[str, AfterValidator(_whole_scalars)]
Identifier = Annotated[str, Field(pattern=ID_PATTERN)]


def unsupported(what: str, advice: str, path: str = "") -> PydanticCustomError:
    """The error for validators to raise: the field is valid, but not supported.

    Args:
        what: what is not supported, for a person: `images are not supported`.
        advice: what to do instead.
        path: the place below the validator's own place; names and indices joined by dots.
    """
    return _said(_UNSUPPORTED, what, advice, path)


def wrong(what: str, path: str, advice: str = "") -> PydanticCustomError:
    """The error for a model's validator to raise: a value that does not fit the others, at `path` below the model."""
    return _said("value_error", what, advice, path)


def _said(kind: Literal["unsupported", "value_error"], what: str, advice: str, path: str) -> PydanticCustomError:
    # Passed as context: braces in a template would be read as placeholders.
    return PydanticCustomError(kind, "{what}", {"what": what, "advice": advice, "path": path})


def request_error(found: Sequence[Mapping[str, Any]], *, whole: str, hint: str) -> RequestError:
    """The error of a request, from pydantic's errors (with their context): the first one's message, and all by path.

    It never contains the values, which may be prompts or keys. If one field is not supported, the whole error is
    `unsupported`.

    Args:
        whole: the path for errors without one, `params` or `body`.
        hint: what to do, unless the first error says it.
    """
    told = sorted(found, key=lambda each: each["type"] != _UNSUPPORTED)
    errors = [FieldError(path=_path(each) or whole, message=_message(each)) for each in told[:MAX_FIELD_ERRORS]]
    rest = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    kind = Unsupported if told[0]["type"] == _UNSUPPORTED else InvalidParams
    advice = told[0].get("ctx", {}).get("advice") or hint
    return kind(f"{errors[0].path}: {errors[0].message}{rest}", hint=advice, errors=errors)


def _path(found: Mapping[str, Any]) -> str:
    inner = found.get("ctx", {}).get("path")
    path = ".".join([*map(str, found["loc"]), *([inner] if inner else [])])
    return path if len(path) <= _MAX_PATH_CHARS else path[: _MAX_PATH_CHARS - 1] + "…"


def _message(found: Mapping[str, Any]) -> str:
    if found["type"] == "union_tag_invalid":
        # The only message of pydantic's that quotes the input.
        return f"should be one of {found['ctx']['expected_tags']}"
    if found["type"] == "model_type":
        # pydantic's message names our class.
        return "should be an object"
    return str(found["msg"]).removeprefix("Value error, ")
