"""What a message says: text, or parts (protocol section 20).

A list of text parts is the same as their texts joined by line breaks, and is held as that; so text alone is one string
everywhere, and only what is more than text has parts beside its text. A part that nobody knows is refused with its
path, since leaving it out would change the answer.
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
from archer_ws.core.wire_types import MEANING, Enumeration
from archer_ws.examples.chat import FILE_PARTS, IMAGE_PARTS, TEXT_PARTS
from archer_ws.llm_gateway.media_urls import WrongUrl, checked_url, inline_size, is_inline, split_inline

#: Parts of one message: a thousand snippets of text is no mistake.
PARTS_MAX = 1000
#: Pictures and documents of one request: Anthropic takes a hundred pictures, nobody takes many more.
MEDIA_PARTS_MAX = 100
#: What file systems take for a name.
FILENAME_CHARS_MAX = 255
FILE_ID_CHARS_MAX = 128
#: Control characters and line ends. What macOS puts into a screenshot's name (a narrow no-break space), what joins
#: emoji, and signs that are newer than this Python belong into names.
_NOT_IN_NAMES = frozenset({"Cc", "Zl", "Zp"})
#: Folders; and what turns the text around it, so that `gpj.exe` looks like `exe.jpg` (UAX #9, section 2).
_FORBIDDEN = frozenset("/\\\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


#: What a picture costs, and what can be made out in it.
ImageDetail = Annotated[
    Literal["low", "high", "auto"], Enumeration("ImageDetail", "How closely the model looks at a picture.")
]


class TextPart(BaseModel):
    """Text."""

    model_config = ConfigDict(json_schema_extra={"examples": [*TEXT_PARTS]})

    type: Literal["text"] = Field(description="What the part is.")
    text: Text = Field(description="The text: whole Unicode characters.")

    @property
    def identity(self) -> list[object]:
        """What tells it from other parts."""
        return [self.type, self.text]


def _checked_filename(name: str) -> str:
    if _FORBIDDEN & set(name) or any(unicodedata.category(each) in _NOT_IN_NAMES for each in name):
        raise wrong("has control characters or slashes", "", "Send the file's name alone, without its folder.")
    return name


FileId = Annotated[Text, Field(min_length=1, max_length=FILE_ID_CHARS_MAX)]
Filename = Annotated[Text, Field(min_length=1, max_length=FILENAME_CHARS_MAX), AfterValidator(_checked_filename)]


class MediaPart(WireModel):
    """What pictures and documents have in common: what they are is in an uploaded file, or at a URL."""

    #: A hash of inline data, made while it was looked at.
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
            raise wrong(has, "", "Send one of both.")
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
        """Where it stood in its message as that was sent; empty where it came otherwise."""
        return self._path

    @property
    def message_place(self) -> int | None:
        """Which of its request's messages it stands in; None of a stored one."""
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
        """Keep what its data is, for whoever counts tokens: also once a file stands in its place."""
        self._about = media_type, size

    @property
    def about(self) -> tuple[str, int] | None:
        """The media type and the bytes of its data, where they are known."""
        return self._about

    @property
    def identity(self) -> list[object]:
        """What tells it from other parts."""
        return [self.type, self.file_id, self.fingerprint]

    @property
    def fingerprint(self) -> str | None:
        """What stands for a URL wherever requests are compared: inline data's hash, with its type."""
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
    detail: ImageDetail | None = optional("How closely the model looks.")

    def _check_type(self, media_type: str) -> None:
        if media_type not in IMAGES:
            raise wrong(f"holds {media_type}, which is no picture", "url", 'Send it as {"type": "file", …}.')


class FilePart(MediaPart):
    """A document: by the id of an uploaded file, or by its URL (`data:` with base64, or `https:`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [*FILE_PARTS]})

    type: Literal["file"] = Field(description="What the part is.")
    filename: Filename | None = optional("Its name, for people and for the model: at most 255 characters.")

    def _check_type(self, media_type: str) -> None:
        if media_type in IMAGES:
            raise wrong(f"holds {media_type}, which is a picture", "url", 'Send it as {"type": "image", …}.')


class UnknownPart(BaseModel):
    """A part that a newer server sends: kept as it came, and shown as unknown."""

    model_config = ConfigDict(extra="allow")

    type: str


Part: TypeAlias = TextPart | ImagePart | FilePart

_MODELS: dict[str, type[Part]] = {"text": TextPart, "image": ImagePart, "file": FilePart}
#: What other APIs call them, and what we do.
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
    """The fields of a message, in which `content` is text and `parts` are its parts where it is more than that.

    What is sent may be a list as `content`; or, as it was received, `parts` beside the text that they have.

    Raises:
        PydanticCustomError: a part is wrong, or not known; or the text is not that of the parts. With the path.
    """
    content, parts = given.get("content"), given.get("parts")
    if isinstance(content, list):
        if parts is not None:
            raise wrong("stands beside a content that is a list", "parts", "Send one of both.")
        found = _parts(content, "content")
        text = text_of(found)
    elif isinstance(parts, list):
        found = _parts(parts, "parts")
        text = text_of(found)
        if content != text:
            raise wrong("are not what content says: their texts, joined by line breaks", "parts", "Send one of both.")
    else:
        return given
    return {**given, "content": text, "parts": found if any(part.type != "text" for part in found) else None}


def text_of(parts: Sequence[Part]) -> str:
    """The texts among the parts, joined by line breaks."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def _parts(given: Sequence[Any], path: str) -> list[Part]:
    if not given:
        raise wrong("has no parts", path, "Send a string, or a list of parts.")
    if len(given) > PARTS_MAX:
        raise wrong(f"has more than {PARTS_MAX} parts", path, "Join what belongs together.")
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
    """What is wrong with a part, at its place in the message."""
    first = error.errors(include_url=False, include_input=False)[0]
    told = first.get("ctx", {})
    place = ".".join([path, *map(str, first["loc"]), *filter(None, [told.get("path")])])
    say = unsupported if first["type"] == "unsupported" else wrong
    message = first["msg"].removeprefix("Value error, ")
    return say(message, path=place, advice=told.get("advice") or f"Send {shape}.")


class _OrParts:
    """Adds to the schema of what clients send the list that `with_parts` takes; what we send is text."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = handler(schema)
        if handler.mode == "serialization":
            return text
        return {"title": "Content", MEANING: "A string, or a list of parts.", "anyOf": [text, _described(handler)]}


class _OfParts:
    """The schema of a list of parts, known and unknown."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _described(handler)


def _described(handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    parts = handler(_PARTS)
    handler.resolve_ref_schema(parts["items"]).update(
        title="Part", description="A piece of what a message says, told apart by its `type`."
    )
    return parts


# For the schemas alone: the `ref` makes a definition of its own of the union, which is called Part.
_PART = core_schema.union_schema([member.__pydantic_core_schema__ for member in get_args(Part)], ref=f"{__name__}.Part")
_PARTS = core_schema.list_schema(_PART, min_length=1, max_length=PARTS_MAX)

#: The text of a message; as it is sent, a string or parts (see `with_parts`).
Content = Annotated[Text, _OrParts()]
#: What a message has beside its text, where it is more than that.
Parts = Annotated[list[Part], _OfParts()]
#: The same as a newer server may send it.
AnyParts = Annotated[list[Part | UnknownPart], _OfParts()]
