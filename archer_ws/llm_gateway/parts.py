"""Pictures and documents for a provider: which ones it accepts, and what a part becomes for it.

Pure. All parts are checked before anything is built or sent: a part that can't be sent is refused with its place in the
request, never left out. The providers' own formats are in their folders.
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from archer_ws.core.exceptions import FieldError, InvalidParams, Unsupported
from archer_ws.core.media_types import IMAGES, PDF, is_text
from archer_ws.llm_gateway.catalog import MediaIntake
from archer_ws.llm_gateway.content import FilePart, ImageDetail, ImagePart, MediaPart, TextPart
from archer_ws.llm_gateway.inline_media import inline_media
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.media_urls import is_inline
from archer_ws.llm_gateway.transport.json_body import LongText
from archer_ws.llm_gateway.types import Capability, ChatMessage, ModelLimits

#: The limit of a request's text files together, in bytes: more than fits a prompt is a mistake, and would be copied
#: several times.
TEXT_FILES_BYTES_MAX = 4 * 1024 * 1024
#: The limit of all pictures and files together, in bytes before base64: more than twice OpenAI's limit (50 MB).
MEDIA_BYTES_MAX = 128 * 1024 * 1024

_SEND_INLINE = (
    "Upload it (POST /api/v1/files) and send its file_id, or send it as a data URL: URLs are read only by OpenAI and "
    "Anthropic themselves."
)
#: How to continue a session whose history has a part that the model does not accept.
_WITHOUT_IT = "Or continue without it: send `replace_from` with the id of the message that contains it."


@dataclass(frozen=True, slots=True)
class AcceptedMedia:
    """What a provider accepts for one of its models; None for what is unknown, which is then tried."""

    provider: str
    model: str
    images: bool | None
    #: PDF; text files are always accepted.
    documents: bool | None
    #: Whether it reads https URLs itself, of pictures and of documents.
    reads_image_urls: bool = False
    reads_document_urls: bool = False
    #: The media types of pictures that it decodes.
    image_types: frozenset[str] = IMAGES
    images_max: int | None = None
    image_bytes_max: int | None = None
    #: The limit of all pictures and files of a request, as base64.
    request_bytes_max: int | None = None
    #: The hints if it does not accept pictures, or documents.
    images_hint: str = ""
    documents_hint: str = ""


def capabilities_of(intake: MediaIntake) -> list[Capability]:
    """The capabilities for pictures and files, as far as is known."""
    known: dict[Capability, bool | None] = {"vision": intake.vision, "files": intake.files}
    return [name for name, can in known.items() if can]


def limits_of(intake: MediaIntake) -> ModelLimits | None:
    """The limits of pictures and files, if there are any."""
    limits = ModelLimits(image_bytes=intake.image_bytes, images=intake.images, request_bytes=intake.request_bytes)
    return limits if limits.model_dump(exclude_none=True) else None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its data, or the URL that the provider reads."""

    source: Media | str
    detail: ImageDetail | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A PDF or a text file: its data, or the URL that the provider reads."""

    source: Media | str
    filename: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is text, if that is known."""
        return isinstance(self.source, Media) and self.source.media_type != PDF

    @property
    def text(self) -> str:
        """The text of a text file."""
        assert isinstance(self.source, Media)
        return b64decode(self.source.base64).decode("utf-8-sig")

    @property
    def headed_text(self) -> str:
        """The text after the file's name, for providers without files."""
        return f"{self.filename or 'A file'}:\n\n{self.text}"


def check_parts(messages: Sequence[ChatMessage], accepted: AcceptedMedia, media: Mapping[str, Media]) -> None:
    """Refuse parts that the provider can't accept.

    Args:
        messages: the request's messages, before any conversion for the provider.
        media: the uploaded files by their ids.

    Raises:
        Unsupported: a part's kind, type or size is not accepted; or it is at a URL that the provider does not read.
        InvalidParams: a file is unknown, or not of the right type; or there are too many.
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
    """The length of the base64 of so many bytes."""
    return -(-size // 3) * 4


def resolved(message: ChatMessage, media: Mapping[str, Media]) -> list[str | Picture | Document]:
    """The content of a checked message, in order: texts, pictures and documents."""
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
    """Whether any message has more than text."""
    return any(message.parts for message in messages)


def as_base64(media: Media) -> LongText:
    """The data as a base64 value in a request's JSON."""
    return LongText("", media.base64)


def as_data_url(media: Media) -> LongText:
    """The data as a data URL in a request's JSON."""
    return LongText(f"data:{media.media_type};base64,", media.base64)


def _source(part: MediaPart, media: Mapping[str, Media]) -> Media | str:
    if part.file_id is not None:
        return media[part.file_id]
    assert part.url is not None
    return inline_media(part.url) if is_inline(part.url) else part.url


@dataclass(frozen=True, slots=True)
class _Look:
    """Checks one part of a message."""

    message: ChatMessage
    number: int
    accepted: AcceptedMedia

    def check(self, part: MediaPart, media: Mapping[str, Media]) -> tuple[str | None, int]:
        """Refuse the part, or return its media type and size; for a URL, None and 0."""
        media_type, size = self._type_and_size(part, media) or (None, 0)
        if isinstance(part, ImagePart):
            self._check_image(media_type, size)
        elif media_type is not None and is_text(media_type):
            self._check_text(part, media, size)
        else:
            self._check_document(media_type)
        return media_type, size

    def _type_and_size(self, part: MediaPart, media: Mapping[str, Media]) -> tuple[str, int] | None:
        """The media type and size of data; None for a URL, which is not read here."""
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
            self.wrong(f"is {media_type}, which is not a picture", 'Send it as {"type": "file", …}.')
        if media_type is not None and media_type not in accepted.image_types:
            good = ", ".join(sorted(accepted.image_types))
            self.refuse(f"is {media_type}, which {accepted.provider} does not decode", f"Send it as one of: {good}.")
        most = accepted.image_bytes_max
        if most is not None and size > most:
            what = f"is a picture of {size} bytes, and {accepted.provider} takes {most} at most"
            self.refuse(what, "Make it smaller: models see at most about 2,000 pixels per side.")

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
            self.refuse(f"is {media_type}, which no model accepts", "Send a PDF, or text.")

    def _check_text(self, part: MediaPart, media: Mapping[str, Media], size: int) -> None:
        if size > TEXT_FILES_BYTES_MAX:
            return  # refused for its size
        try:
            b64decode(_data(part, media).base64).decode()
        except UnicodeDecodeError:
            self.wrong("is not text in UTF-8", "Send it in UTF-8.")

    def refuse(self, what: str, hint: str) -> NoReturn:
        path = self.message.request_path(self.number)
        raise Unsupported(
            f"{path}: {self._whose(path)}{what}",
            hint=self._advice(hint, path),
            provider=self.accepted.provider,
            errors=[FieldError(path=path, message=what)],
        )

    def wrong(self, what: str, hint: str, field: str = "") -> NoReturn:
        path = self.message.request_path(self.number)
        if field and path != "session_id":
            path = f"{path}.{field}"
        raise InvalidParams(
            f"{path}: {self._whose(path)}{what}",
            hint=self._advice(hint, path),
            errors=[FieldError(path=path, message=what)],
        )

    @staticmethod
    def _advice(hint: str, path: str) -> str:
        return f"{hint} {_WITHOUT_IT}".strip() if path == "session_id" else hint

    def _whose(self, path: str) -> str:
        if path.startswith("messages."):
            return ""
        if self.message.call_id is not None:
            return f"a picture or file in the result of call {self.message.call_id!r}: "
        return (
            "a picture or file of its history: " if path == "session_id" else "a picture or file that was steered in: "
        )


def _data(part: MediaPart, media: Mapping[str, Media]) -> Media:
    found = _source(part, media)
    assert isinstance(found, Media)
    return found
