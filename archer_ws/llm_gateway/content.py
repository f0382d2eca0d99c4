"""The content of a message: text, or parts (protocol section 20).

A list of text parts equals their texts joined by line breaks, and is stored as that text. So content of text alone is
always one string, and only other content has parts in addition. An unknown part is refused with its path, since leaving
it out would change the completion.
"""

import unicodedata
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from archer_ws.core.media_types import IMAGES, UnsupportedMediaType
from archer_ws.core.wire_model import Text, WireModel, optional, unsupported, wrong
from archer_ws.core.wire_types import MEANING, NamedType
from archer_ws.examples.chat import FILE_PARTS, IMAGE_PARTS, TEXT_PARTS
from archer_ws.llm_gateway.media_urls import WrongUrl, checked_url, inline_size, is_inline, split_inline

#: The limit of parts in one message: a thousand snippets of text may be intended.
PARTS_MAX = 1000
#: The limit of pictures and documents in one request: Anthropic accepts a hundred pictures, other providers not many
#: more.
MEDIA_PARTS_MAX = 100
#: The longest name on most file systems.
FILENAME_CHARS_MAX = 255
FILE_ID_CHARS_MAX = 128
#: Control characters and line ends. A narrow no-break space (in macOS's screenshot names), emoji joiners, and
#: characters newer than this Python are allowed in names.
_NOT_IN_NAMES = frozenset({"Cc", "Zl", "Zp"})
#: Slashes; and characters that reverse the text around them, so that `gpj.exe` looks like `exe.jpg` (UAX #9, section
#: 2).
_FORBIDDEN = frozenset("/\\\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


#: Sets the cost of a picture, and how much detail the model sees.
ImageDetail = Annotated[
    Literal["low", "high", "auto"], NamedType("ImageDetail", "The detail in which the model sees a picture.")
]


class TextPart(BaseModel):
    """Text."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TEXT_PARTS]})

    type: Literal["text"] = Field(description="What the part is.")
    text: Text = Field(description="The text: whole Unicode characters.")

    @property
    def identity(self) -> list[object]:
        """The values that distinguish it from other parts."""
        return [self.type, self.text]


def _checked_filename(name: str) -> str:
    if _FORBIDDEN & set(name) or any(unicodedata.category(each) in _NOT_IN_NAMES for each in name):
        raise wrong(
            "has slashes, control characters, or characters that change the direction of the text",
            "",
            "Send the file's name alone, without its folder and such characters.",
        )
    return name


#: In place of an index: the message is a result, or was steered in, and not in the request of the stream.
ADDED = -1

FileId = Annotated[str, Field(min_length=1, max_length=FILE_ID_CHARS_MAX)]
Filename = Annotated[str, Field(min_length=1, max_length=FILENAME_CHARS_MAX), AfterValidator(_checked_filename)]


class MediaPart(WireModel):
    """What pictures and documents share: their data is in an uploaded file, or at a URL."""

    #: The hash of inline data, made when it was checked.
    _digest: bytes | None = None
    _about: tuple[str, int] | None = None
    _path: str = ""
    _message_place: int | None = None

    type: str
    file_id: FileId | None = optional("The id of an uploaded file.")
    url: str | None = optional("Where it is, if not in a file: `data:<media type>;base64,…` or `https://…`.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file_id is None) == (self.url is None):
            has = "has neither a file_id nor a url" if self.url is None else "has both a file_id and a url"
            raise wrong(has, "", "Send only one of them.")
        if self.url is not None:
            self._check_url(self.url)
        return self

    def _check_url(self, url: str) -> None:
        try:
            self.url, self._digest = checked_url(url)
        except WrongUrl as error:
            raise wrong(str(error), "url", error.advice) from None
        except UnsupportedMediaType as error:
            raise unsupported(str(error), error.advice, "url") from None
        if is_inline(self.url):
            media_type, begin = split_inline(self.url)
            self.learn(media_type, inline_size(self.url, begin))
            self._check_type(media_type)

    @property
    def path(self) -> str:
        """Its path in the message as it was sent; empty if it was not sent as a part."""
        return self._path

    @property
    def message_place(self) -> int | None:
        """The index of its message in the request; None for a stored message, ADDED for one that came later."""
        return self._message_place

    @message_place.setter
    def message_place(self, place: int) -> None:
        self._message_place = place

    def without_place(self) -> Self:
        """The part as a later request finds it in the history."""
        stored = self.model_copy()
        stored._message_place = None
        return stored

    def learn(self, media_type: str, size: int) -> None:
        """Record its media type and size, for counting tokens, even after a file has replaced its data."""
        self._about = media_type, size

    @property
    def about(self) -> tuple[str, int] | None:
        """The media type and the size of its data, if known."""
        return self._about

    @property
    def identity(self) -> list[object]:
        """The values that distinguish it from other parts."""
        return [self.type, self.file_id, self.fingerprint]

    @property
    def fingerprint(self) -> str | None:
        """The replacement for a URL when requests are compared: inline data's type and hash."""
        if self.url is None or self._digest is None:
            return self.url
        return f"{self.url[: self.url.index(',') + 1]}{self._digest.hex()}"

    @abstractmethod
    def _check_type(self, media_type: str) -> None:
        """Refuse inline data of another kind."""


class ImagePart(MediaPart):
    """A picture: by the id of an uploaded file, or by its URL (`data:` with base64, or `https:`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*IMAGE_PARTS]})

    type: Literal["image"] = Field(description="What the part is.")
    detail: ImageDetail | None = optional("The detail in which the model sees it.")

    def _check_type(self, media_type: str) -> None:
        if media_type not in IMAGES:
            raise wrong(f"contains {media_type}, which is not a picture", "url", 'Send it as {"type": "file", …}.')


class FilePart(MediaPart):
    """A document: by the id of an uploaded file, or by its URL (`data:` with base64, or `https:`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*FILE_PARTS]})

    type: Literal["file"] = Field(description="What the part is.")
    filename: Filename | None = optional("Its name, for people and for the model: at most 255 characters.")

    def _check_type(self, media_type: str) -> None:
        if media_type in IMAGES:
            raise wrong(f"contains {media_type}, which is a picture", "url", 'Send it as {"type": "image", …}.')


class UnknownPart(BaseModel):
    """A part from a newer server: stored unchanged, and shown as unknown."""

    model_config = ConfigDict(extra="allow")

    type: str


Part: TypeAlias = TextPart | ImagePart | FilePart
AnyPart: TypeAlias = Part | UnknownPart

_MODELS: dict[str, type[Part]] = {"text": TextPart, "image": ImagePart, "file": FilePart}
#: The names of part types in other APIs, and ours.
_SHAPES = {
    "text": '{"type": "text", "text": …}',
    "image": '{"type": "image", "url": …}',
    "file": '{"type": "file", "url": …}',
}
_FOREIGN = {
    "image_url": "image",
    "input_image": "image",
    "input_text": "text",
    "output_text": "text",
    "input_file": "file",
    "document": "file",
}


def with_parts(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a message, in which `content` is text, and `parts` are its parts if it is more than text.

    Clients may send a list as `content`; or, as they receive it, `parts` beside their text.

    Raises:
        PydanticCustomError: a part is wrong or unknown, or the text is not that of the parts. With the path.
    """
    content, parts = given.get("content"), given.get("parts")
    if isinstance(content, list):
        if parts is not None:
            raise wrong("is not allowed beside a content that is a list", "parts", "Send only one of them.")
        found = _parts(content, "content")
        text = text_of(found)
    elif isinstance(parts, list):
        found = _parts(parts, "parts")
        text = text_of(found)
        if content != text:
            raise wrong(
                "do not match content, which must be their texts, joined by line breaks",
                "parts",
                "Send only one of them.",
            )
    else:
        return given
    return {**given, "content": text, "parts": found if any(part.type != "text" for part in found) else None}


def text_of(parts: Sequence[AnyPart]) -> str:
    """The texts among the parts, joined by line breaks."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def shortened(parts: Sequence[AnyPart], text: str) -> list[AnyPart]:
    """The parts with only the beginning `text` of their text; all pictures and files stay."""
    room = len(text)
    found: list[AnyPart] = []
    for part in parts:
        if not isinstance(part, TextPart):
            found.append(part)
            continue
        if room >= 0:
            found.append(part if len(part.text) <= room else part.model_copy(update={"text": part.text[:room]}))
        room -= len(part.text) + 1  # The line break that joins it to the next one.
    return found


def _parts(given: Sequence[Any], path: str) -> list[Part]:
    if not given:
        raise wrong("has no parts", path, "Send a string, or a list of parts.")
    if len(given) > PARTS_MAX:
        raise wrong(f"has more than {PARTS_MAX} parts", path, "Join texts that belong together.")
    return [_part(part, f"{path}.{place}") for place, part in enumerate(given)]


def _part(given: Any, path: str) -> Part:
    if isinstance(given, Part):
        return _at(given, path)
    kind = given.get("type") if isinstance(given, dict) else None
    if not isinstance(kind, str):
        raise wrong("should be an object with a type", path, f"Send {_SHAPES['text']}.")
    model = _MODELS.get(kind)
    if model is None:
        ours = _FOREIGN.get(kind)
        advice = f"Send {_SHAPES[ours]}." if ours else f"Send parts of the types {', '.join(_MODELS)}."
        raise unsupported("this type of part is not known", advice, f"{path}.type")
    try:
        return _at(model.model_validate(given), path)
    except ValidationError as error:
        raise _placed(error, path, _SHAPES[kind]) from None


def _at(part: Part, path: str) -> Part:
    if isinstance(part, MediaPart):
        part._path = path
    return part


def _placed(error: ValidationError, path: str, shape: str) -> Exception:
    """The error for a part, with its path in the message."""
    first = error.errors(include_url=False, include_input=False)[0]
    told = first.get("ctx", {})
    place = ".".join([path, *map(str, first["loc"]), *filter(None, [told.get("path")])])
    say = unsupported if first["type"] == "unsupported" else wrong
    message = first["msg"].removeprefix("Value error, ")
    return say(message, path=place, advice=told.get("advice") or f"Send {shape}.")


class _OrParts:
    """Adds the list of parts to the schema of what clients send; the server sends text."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = handler(schema)
        if handler.mode == "serialization":
            return text
        return {"title": "Content", MEANING: "A string, or a list of parts.", "anyOf": [text, _described(handler)]}


class _OfParts:
    """The schema of a list of known and unknown parts."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _described(handler)


def _described(handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    parts = handler(_PARTS)
    handler.resolve_ref_schema(parts["items"]).update(
        title="Part", description="A piece of what a message says, told apart by its `type`."
    )
    return parts


# Only for the schemas: the `ref` makes the union a definition of its own, called Part.
_PART = core_schema.union_schema([member.__pydantic_core_schema__ for member in get_args(Part)], ref=f"{__name__}.Part")
_PARTS = core_schema.list_schema(_PART, min_length=1, max_length=PARTS_MAX)

#: The text of a message; clients may send a string or parts (see `with_parts`).
Content = Annotated[Text, _OrParts()]
#: The parts of a message, if it is more than text.
Parts = Annotated[list[Part], _OfParts()]
#: The same, as a newer server may send it.
AnyParts = Annotated[list[AnyPart], _OfParts()]
