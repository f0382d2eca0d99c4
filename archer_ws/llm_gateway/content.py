"""What a message says: text, or parts (protocol section 20).

A list of text parts is the same as their texts joined by line breaks, and is held as that; so text alone is one string
everywhere, and only what is more than text is parts. Of the parts with a meaning, images and files are not served yet:
they are refused with their path, as is what nobody knows, since leaving a part out would change the answer.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from archer_ws.core.wire_model import Text, optional, unsupported, wrong
from archer_ws.core.wire_types import MEANING, Enumeration

#: Parts of one message: a hundred photos is a mistake, a thousand snippets of text is not.
PARTS_MAX = 1000


#: What a picture costs, and what can be made out in it.
ImageDetail = Annotated[
    Literal["low", "high", "auto"], Enumeration("ImageDetail", "How closely the model looks at a picture.")
]


class TextPart(BaseModel):
    """Text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "text", "text": "What is this?"}]})

    type: Literal["text"] = Field(description="What the part is.")
    text: Text = Field(description="The text: whole Unicode characters.")


class ImagePart(BaseModel):
    """A picture: by the id of an uploaded file, or by its URL (`data:` with base64, or `https:`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "image", "url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
                {"type": "image", "file_id": "file_Zq0wXyNn2m1p"},
            ]
        }
    )

    type: Literal["image"] = Field(description="What the part is.")
    file_id: str | None = optional("The id of an uploaded file.")
    url: str | None = optional("Where it is, if not in a file: `data:` or `https:`.")
    detail: ImageDetail | None = optional("How closely the model looks.")


class FilePart(BaseModel):
    """A document: by the id of an uploaded file, or by its URL (`data:` with base64, or `https:`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "file", "file_id": "file_Zq0wXyNn2m1p", "filename": "report.pdf"},
                {"type": "file", "url": "https://example.com/report.pdf"},
            ]
        }
    )

    type: Literal["file"] = Field(description="What the part is.")
    file_id: str | None = optional("The id of an uploaded file.")
    url: str | None = optional("Where it is, if not in a file: `data:` or `https:`.")
    filename: str | None = optional("Its name, for people and for the model.")


Part = TextPart | ImagePart | FilePart


def _joined(given: Any) -> Any:
    """Text parts as one text; a part that is more is refused, one that is wrong is told with its place."""
    if not isinstance(given, list):
        return given
    if not given:
        raise wrong("has no parts", "", "Send a string, or a list of parts.")
    if len(given) > PARTS_MAX:
        raise wrong(f"has more than {PARTS_MAX} parts", "", "Join what belongs together.")
    return "\n".join(_text_of(part, str(place)) for place, part in enumerate(given))


def _text_of(part: Any, place: str) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "text"}:
            raise wrong("should be a string", f"{place}.text", 'Send {"type": "text", "text": …}.')
        case {"type": "image" | "image_url" | "input_image"}:
            raise unsupported("images are not supported", "Send text alone.", place)
        case {"type": "file" | "input_file" | "document"}:
            raise unsupported("files are not supported", "Send the file's text as a text part.", place)
        case {"type": str()}:
            raise unsupported("this type of part is not known", "Send parts of the type text.", f"{place}.type")
    raise wrong("should be an object with a type", place, 'Send {"type": "text", "text": …}.')


class _OrParts:
    """Adds to the schema of what clients send the list that `_joined` takes; what we send is text."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = handler(schema)
        if handler.mode == "serialization":
            return text
        parts = handler(_PARTS)
        handler.resolve_ref_schema(parts["items"]).update(
            title="Part", description="A piece of what a message says, told apart by its `type`."
        )
        return {"title": "Content", MEANING: "A string, or a list of parts.", "anyOf": [text, parts]}


# For the schemas alone: the `ref` makes a definition of its own of the union, which is called Part.
_PART = core_schema.union_schema([member.__pydantic_core_schema__ for member in get_args(Part)], ref=f"{__name__}.Part")
_PARTS = core_schema.list_schema(_PART, min_length=1, max_length=PARTS_MAX)

#: A string, or parts; held as a string as long as it is text alone.
Content = Annotated[Text, BeforeValidator(_joined), _OrParts()]
