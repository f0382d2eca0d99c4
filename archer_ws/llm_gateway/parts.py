"""Pictures and documents on their way to a provider: what it takes, and what a part becomes for it.

Pure. Whether all can go is looked at before anything is made or sent: what can't is refused with its place in the
request, never left out. How a provider says it, is in its own folder.
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from archer_ws.core.exceptions import FieldError, InvalidParams, Unsupported
from archer_ws.core.media_types import IMAGES, PDF, is_text
from archer_ws.llm_gateway.catalog import Intake
from archer_ws.llm_gateway.content import FilePart, ImageDetail, ImagePart, MediaPart, TextPart
from archer_ws.llm_gateway.inline_media import inline_media
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.media_urls import is_inline
from archer_ws.llm_gateway.transport.json_body import LongText
from archer_ws.llm_gateway.types import Capability, ChatMessage, ModelLimits

#: What the text files of a request may have together: more than a prompt can hold is a mistake, and is copied several
#: times.
TEXT_FILES_BYTES_MAX = 4 * 1024 * 1024
#: The same of all pictures and files, in bytes before base64: more than twice what OpenAI takes (50 MB).
MEDIA_BYTES_MAX = 128 * 1024 * 1024

_SEND_INLINE = (
    "Upload it (POST /api/v1/files) and send its file_id, or send it as a data URL: URLs are read by OpenAI and "
    "Anthropic themselves alone."
)
#: What goes on with a session whose history shows what the model does not take.
_WITHOUT_IT = "Or go on without it: send `replace_from` with the id of the message that shows it."


@dataclass(frozen=True, slots=True)
class AcceptedMedia:
    """What a provider takes for one of its models; None where that is not known: then it is tried."""

    provider: str
    model: str
    images: bool | None
    #: PDF; text goes everywhere.
    documents: bool | None
    #: Whether it reads https URLs by itself, of pictures and of documents.
    reads_image_urls: bool = False
    reads_document_urls: bool = False
    #: The media types of pictures that it decodes.
    image_types: frozenset[str] = IMAGES
    images_max: int | None = None
    image_bytes_max: int | None = None
    #: Of all of a request, as base64.
    request_bytes_max: int | None = None
    #: What to do where it takes no pictures, or no documents.
    images_hint: str = ""
    documents_hint: str = ""


def capabilities_of(intake: Intake) -> list[Capability]:
    """What of pictures and files is taken, as far as is known."""
    known: dict[Capability, bool | None] = {"vision": intake.vision, "files": intake.files}
    return [name for name, can in known.items() if can]


def limits_of(intake: Intake) -> ModelLimits | None:
    """The bounds of what is taken, where there are any."""
    limits = ModelLimits(image_bytes=intake.image_bytes, images=intake.images, request_bytes=intake.request_bytes)
    return limits if limits.model_dump(exclude_none=True) else None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its data, or where the provider finds it."""

    source: Media | str
    detail: ImageDetail | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A PDF, or a file of text: its data, or where the provider finds it."""

    source: Media | str
    filename: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is text, as far as is known."""
        return isinstance(self.source, Media) and self.source.media_type != PDF

    @property
    def text(self) -> str:
        """The text of a text file."""
        assert isinstance(self.source, Media)
        return b64decode(self.source.base64).decode("utf-8-sig")

    @property
    def headed_text(self) -> str:
        """The same for whoever takes no files: below its name."""
        return f"{self.filename or 'A file'}:\n\n{self.text}"


def check_parts(messages: Sequence[ChatMessage], accepted: AcceptedMedia, media: Mapping[str, Media]) -> None:
    """Refuse what the provider can't take.

    Args:
        messages: as they are before anything is put right for the provider.
        media: the uploaded files by their ids.

    Raises:
        Unsupported: a part is of a kind, a type or a size that it does not take; or is at a URL that it does not read.
        InvalidParams: a file is not known, or not what it should be; or there are too many.
    """
    images, texts, size, encoded = 0, 0, 0, 0
    for message in messages:
        for number, part in enumerate(message.parts or ()):
            if not isinstance(part, MediaPart):
                continue
            look = _Look(message, number, accepted)
            media_type, bytes_ = look.check(part, media)
            size += bytes_
            encoded += encoded_bytes(bytes_)
            if isinstance(part, ImagePart):
                images += 1
            elif media_type is not None and is_text(media_type):
                texts += bytes_
            if accepted.images_max is not None and images > accepted.images_max:
                look.wrong(
                    f"{accepted.model} takes {accepted.images_max} pictures at most", "Leave the oldest ones out."
                )
            if accepted.request_bytes_max is not None and encoded > accepted.request_bytes_max:
                most = accepted.request_bytes_max // 4 * 3
                what = f"pictures and files have more than {most} bytes together, and {accepted.provider} takes no more"
                look.refuse(what, "Leave the oldest ones out, or make them smaller.")
            if texts > TEXT_FILES_BYTES_MAX:
                what = f"the text files have more than {TEXT_FILES_BYTES_MAX} bytes together"
                look.wrong(what, "Send the parts of them that matter.")
            if size > MEDIA_BYTES_MAX:
                what = f"pictures and files have more than {MEDIA_BYTES_MAX} bytes together"
                look.wrong(what, "Leave the oldest ones out, or make them smaller.")


def encoded_bytes(size: int) -> int:
    """The length of so many bytes' base64."""
    return -(-size // 3) * 4


def resolved(message: ChatMessage, media: Mapping[str, Media]) -> list[str | Picture | Document]:
    """What a checked message says, in order: texts, pictures and documents."""
    if message.parts is None:
        return [message.content] if message.content else []
    said: list[str | Picture | Document] = []
    for part in message.parts:
        match part:
            case TextPart():
                said.append(part.text)
            case ImagePart():
                said.append(Picture(_source(part, media), part.detail))
            case FilePart():
                said.append(Document(_source(part, media), part.filename))
    return said


def has_media(messages: Sequence[ChatMessage]) -> bool:
    """Whether any message is more than text."""
    return any(message.parts for message in messages)


def as_base64(media: Media) -> LongText:
    """The data as a value in a request's JSON."""
    return LongText("", media.base64)


def as_data_url(media: Media) -> LongText:
    """The same as a data URL."""
    return LongText(f"data:{media.media_type};base64,", media.base64)


def _source(part: MediaPart, media: Mapping[str, Media]) -> Media | str:
    if part.file_id is not None:
        return media[part.file_id]
    assert part.url is not None
    return inline_media(part.url) if is_inline(part.url) else part.url


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at one part of a message."""

    message: ChatMessage
    number: int
    accepted: AcceptedMedia

    def check(self, part: MediaPart, media: Mapping[str, Media]) -> tuple[str | None, int]:
        """Refuse it, or say its media type and size; nothing of either is known of what is at a URL."""
        media_type, size = self._type_and_size(part, media) or (None, 0)
        if isinstance(part, ImagePart):
            self._check_image(media_type, size)
        elif media_type is not None and is_text(media_type):
            self._check_text(part, media, size)
        else:
            self._check_document(media_type)
        return media_type, size

    def _type_and_size(self, part: MediaPart, media: Mapping[str, Media]) -> tuple[str, int] | None:
        """Of data; None of a URL, which nobody here reads."""
        if part.file_id is not None:
            file = media.get(part.file_id)
            if file is None:
                self.wrong(f"there is no file {part.file_id!r}", "Upload it again (POST /api/v1/files).", "file_id")
            return file.media_type, file.size
        return part.about

    def _check_image(self, media_type: str | None, size: int) -> None:
        accepted = self.accepted
        if accepted.images is False:
            self.refuse(f"{accepted.model} takes no pictures", accepted.images_hint)
        if media_type is None and not accepted.reads_image_urls:
            self.refuse(f"{accepted.provider}, as it is set up here, reads no URLs", _SEND_INLINE)
        if media_type is not None and media_type not in IMAGES:
            self.wrong(f"is {media_type}, and no picture", 'Send it as {"type": "file", …}.')
        if media_type is not None and media_type not in accepted.image_types:
            good = ", ".join(sorted(accepted.image_types))
            self.refuse(f"is {media_type}, which {accepted.provider} does not decode", f"Send it as one of: {good}.")
        most = accepted.image_bytes_max
        if most is not None and size > most:
            what = f"is a picture of {size} bytes, and {accepted.provider} takes {most} at most"
            self.refuse(what, "Make it smaller: models see no more than some 2,000 pixels of each side.")

    def _check_document(self, media_type: str | None) -> None:
        accepted = self.accepted
        if media_type in IMAGES:
            self.wrong(f"is {media_type}, a picture", 'Send it as {"type": "image", …}.')
        if accepted.documents is False:
            self.refuse(
                f"{accepted.model} takes no PDF" if media_type else f"{accepted.model} takes no files",
                accepted.documents_hint,
            )
        if media_type is None and not accepted.reads_document_urls:
            self.refuse(f"{accepted.provider}, as it is set up here, reads no URLs of files", _SEND_INLINE)
        if media_type is not None and media_type != PDF:
            self.refuse(f"is {media_type}, which no model takes", "Send a PDF, or text.")

    def _check_text(self, part: MediaPart, media: Mapping[str, Media], size: int) -> None:
        if size > TEXT_FILES_BYTES_MAX:
            return  # which is refused for its size
        try:
            b64decode(_data(part, media).base64).decode()
        except UnicodeDecodeError:
            self.wrong("is no text in UTF-8", "Send it in UTF-8.")

    def refuse(self, what: str, hint: str) -> NoReturn:
        path = self.message.request_path(self.number)
        raise Unsupported(
            f"{path}: {self._of_history(path)}{what}",
            hint=self._advice(hint, path),
            provider=self.accepted.provider,
            errors=[FieldError(path=path, message=what)],
        )

    def wrong(self, what: str, hint: str, field: str = "") -> NoReturn:
        path = self.message.request_path(self.number)
        if field and not self._of_history(path):
            path = f"{path}.{field}"
        raise InvalidParams(
            f"{path}: {self._of_history(path)}{what}",
            hint=self._advice(hint, path),
            errors=[FieldError(path=path, message=what)],
        )

    @staticmethod
    def _advice(hint: str, path: str) -> str:
        return f"{hint} {_WITHOUT_IT}".strip() if path == "session_id" else hint

    @staticmethod
    def _of_history(path: str) -> str:
        return "a picture or file of its history: " if path == "session_id" else ""


def _data(part: MediaPart, media: Mapping[str, Media]) -> Media:
    found = _source(part, media)
    assert isinstance(found, Media)
    return found
