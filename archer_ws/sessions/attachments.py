"""The files that messages name: held while streams run, retained while stored messages name them, read for providers.

It joins the files (files/) with the conversation store, which alone knows which files stored messages name. Which files
exist, and whose they are, is known to files/.
"""

import asyncio
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog

from archer_ws.core.exceptions import ArcherError, Conflict, FieldError, FileNotFound, RequestError
from archer_ws.core.limits import FILES_SWEEP_S, MEDIA_BYTES_IN_ALL, MEMORY_FILES_BYTES
from archer_ws.core.media_types import is_text
from archer_ws.files.files import Files
from archer_ws.files.inspection import inspect
from archer_ws.files.memory_shelf import MemoryShelf
from archer_ws.files.shelf import Reader
from archer_ws.files.stored import FileHold, Kept, StoredFile
from archer_ws.llm_gateway.content import ImagePart, MediaPart
from archer_ws.llm_gateway.inline_media import InlinePart, inline_parts, with_file_ids
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.parts import encoded_bytes
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.history import Shown
from archer_ws.sessions.room import Reservation, Room
from archer_ws.sessions.storage.store import SessionStore

log = structlog.get_logger(__name__)

#: How much of a file is read and encoded at once, in bytes; a multiple of 3, so that the base64 of the slices can be
#: concatenated.
_SLICE_BYTES = 192 * 1024
_BASE64_SLICE = _SLICE_BYTES // 3 * 4
#: How often opening the files' directory is retried if it failed at the start, in seconds.
_TRY_AGAIN_S = 5.0


class Attachments:
    """The files that messages name.

    Args:
        files: all stored files.
        store: knows which of them stored messages name.
        sweep_s: the pause between two sweeps for expired files, in seconds.
    """

    def __init__(self, files: Files, store: SessionStore, sweep_s: float = FILES_SWEEP_S) -> None:
        self.files = files
        self._store = store
        self._sweep_s = sweep_s
        self._room = Room(MEDIA_BYTES_IN_ALL)

    def named(self, principal: str, messages: Sequence[ChatMessage]) -> list[StoredFile]:
        """The files that a request's messages name. The type and size of each is noted in its part, for token counting.

        Raises:
            FileNotFound: there is no such file; with the path of its id.
            StorageUnavailable: the files can't be read yet.
        """
        found = []
        for place, message in enumerate(messages):
            for number, file_id in _file_ids(message) if message.parts else ():
                try:
                    file = self.files.find(principal, file_id)
                except FileNotFound as error:
                    path = f"messages.{place}.{message.part_path(number)}.file_id"
                    raise FileNotFound(
                        f"{path}: {error.message}",
                        hint=error.hint,
                        errors=[FieldError(path=path, message=error.message)],
                    ) from None
                found.append(file)
                part = message.parts[number] if message.parts else None
                if isinstance(part, MediaPart):
                    part.learn(file.media_type, file.size)
        return found

    def media_bytes(self, principal: str, messages: Sequence[ChatMessage]) -> int:
        """The bytes that the files of these messages take in memory when they are encoded for a request.

        Raises:
            StorageUnavailable: the files can't be read yet.
        """
        return sum(_encoded_bytes(file) for file in self.present(principal, messages))

    def shown(self, principal: str, message: ChatMessage) -> Shown:
        """The size of a message's pictures and files in a request; files that no longer exist count as 0.

        Raises:
            StorageUnavailable: the files can't be read yet.
        """
        size = images = 0
        for part in message.parts or ():
            if isinstance(part, MediaPart):
                images += isinstance(part, ImagePart)
                with suppress(FileNotFound):
                    named = part.file_id and self.files.find(principal, part.file_id)
                    size += encoded_bytes(named.size if named else part.about[1] if part.about else 0)
        return Shown(size, images)

    async def media(self, principal: str, messages: Sequence[ChatMessage], held: "StreamFiles") -> Mapping[str, Media]:
        """Read the files that messages name, by file id; files that no longer exist are left out.

        Waits while the files of other requests use all the memory that is reserved for files. `held` frees the memory;
        it must have been freed since the previous call, or this could wait for itself.

        Raises:
            StorageUnavailable: the disk failed, or the files can't be read yet.
        """
        files = self.present(principal, messages)
        held.hold(files)
        held.reserve(await self._room.take(sum(map(_encoded_bytes, files))))
        media: dict[str, Media] = {}
        for file in files:
            with suppress(FileNotFound):
                encoded = await self.files.read(file, partial(_encoded, file))
                held.free_later(encoded)
                media[file.file_id] = Media(file.media_type, encoded, file.size)
        return media

    def present(self, principal: str, messages: Sequence[ChatMessage]) -> list[StoredFile]:
        """The files that messages name, each once. Files that no longer exist are left out, and logged.

        Raises:
            StorageUnavailable: the files can't be read yet.
        """
        found: dict[str, StoredFile] = {}
        for message in messages:
            for file_id in message.file_ids if message.parts else ():
                try:
                    found[file_id] = self.files.find(principal, file_id)
                except FileNotFound:
                    log.warning("file_missing", file_id=file_id)
        return list(found.values())

    async def with_files(
        self, principal: str, messages: Sequence[ChatMessage]
    ) -> tuple[Sequence[ChatMessage], FileHold]:
        """Store inline data as files. Returns the messages with the files' ids in place of the data, and a hold on the
        files.

        Raises:
            Unsupported, InvalidParams, ContentTooLarge: the data is not accepted; with the path of its part.
            StorageFull, StorageUnavailable: it was not stored.
        """
        kept: list[StoredFile] = []
        file_ids: dict[tuple[int, int], str] = {}
        holds = StreamFiles(self.files)
        try:
            for inline in inline_parts(messages):
                came = await self._keep(principal, inline.media, _path_of(messages, inline))
                holds.add(came.hold)
                kept.append(came.file)
                file_ids[inline.message, inline.part] = came.file.file_id
            return with_file_ids(messages, file_ids), self.files.hold(kept)
        finally:
            holds.release()

    async def _keep(self, principal: str, media: Media, path: str) -> Kept:
        try:
            with self.files.upload(principal, media.media_type, media.size, is_passing=True) as upload:
                for place in range(0, len(media.base64), _BASE64_SLICE):
                    await upload.write(a2b_base64(media.base64[place : place + _BASE64_SLICE]))
                return await upload.finish()
        except RequestError as error:
            raise _at(path, error) from None

    def stored(self, principal: str, messages: Sequence[ChatMessage]) -> None:
        """Note that the messages are stored: from now on they retain the files that they name."""
        for message in messages:
            for file_id in message.file_ids if message.parts else ():
                if (file := self.files.get(principal, file_id)) is not None:
                    file.is_passing, file.is_stored = False, True

    async def delete(self, principal: str, file_id: str) -> None:
        """Delete a file.

        Raises:
            FileNotFound: there is no such file.
            Conflict: a running stream or a stored message names it.
            StorageUnavailable: the store or the disk failed; the file was not deleted.
        """
        file = self.files.find(principal, file_id)
        if file_id in await self._store.named_files():
            raise Conflict(
                f"a stored message names the file {file_id!r}",
                hint="Delete the sessions whose messages name it: the file is deleted with the last of them.",
            )
        if self.files.is_held(file):
            raise Conflict(
                f"the file {file_id!r} is in use", hint="Wait for the stream that uses it to end, or cancel it."
            )
        await self.files.remove(file)

    async def session_deleted(self, principal: str, named: Collection[str]) -> None:
        """Delete the files that a deleted session's messages named, unless other messages name them, or the same file
        was uploaded again."""
        files = [file for file_id in named if (file := self.files.get(principal, file_id)) is not None]
        await self._remove_unnamed([file for file in files if file.is_stored])

    async def run(self) -> None:
        """Delete expired files, again and again until cancelled."""
        is_known = False
        while True:
            try:
                # Already open, unless the directory could not be used at the start.
                await asyncio.to_thread(self.files.open_now)
                if not is_known and self.files.is_open:
                    await self._learn()
                    is_known = True
                await self.sweep()
            except ArcherError as error:
                log.warning("sweep_failed", kind=error.kind)
            await asyncio.sleep(self._sweep_s if is_known else min(self._sweep_s, _TRY_AGAIN_S))

    async def sweep(self) -> None:
        """Delete expired files, unless stored messages name them. Nothing is deleted while a damaged store is set
        aside, since its messages may name any file.

        Raises:
            StorageUnavailable: the store or the disk failed; the next sweep goes on.
        """
        expired = self.files.expired()
        # It is unknown which files a damaged store's conversations name, and a backup may restore them.
        if not expired or not await asyncio.to_thread(lambda: self._store.is_whole):
            return
        await self._remove_unnamed(expired)

    async def _remove_unnamed(self, files: Sequence[StoredFile]) -> None:
        """Delete these files, unless stored messages name them, or somebody uses them meanwhile: a message that names
        them may have been stored since the store was asked."""
        used = [(file, file.used_at) for file in files]
        still = await self._store.named_files() if used else ()
        for file, used_at in used:
            if file.file_id not in still:
                await self.files.remove(file, used_at=used_at)

    async def _learn(self) -> None:
        """Find out which of the files from before this process are named by stored messages."""
        named = await self._store.named_files()
        for file in self.files.all():
            file.is_stored = file.is_stored or file.file_id in named


class StreamFiles:
    """The files that one stream holds until it ends, and the memory that they take while they are being sent."""

    def __init__(self, files: Files) -> None:
        self._files = files
        #: Whether a stored message may name them, so that those of inline data stay when the stream has ended.
        self.may_be_named = False
        self._holds: list[FileHold] = []
        self._reserved: list[Reservation] = []
        self._bytes: list[bytearray] = []

    def hold(self, files: Sequence[StoredFile]) -> None:
        """Hold these files, too."""
        if files:
            self._holds.append(self._files.hold(files))

    def add(self, hold: FileHold) -> None:
        """Take ownership of a hold."""
        self._holds.append(hold)

    def reserve(self, memory: Reservation) -> None:
        """Take ownership of reserved memory, until `free`."""
        self._reserved.append(memory)

    def free_later(self, held: bytearray) -> None:
        """Clear these bytes with `free`, even if something still refers to them: the frames of an exception live until
        the next garbage collection."""
        self._bytes.append(held)

    def free(self) -> None:
        """Free the memory: nothing is being sent any more. The files stay held."""
        for each in self._bytes:
            with suppress(BufferError):  # Being sent now; the sender releases it.
                each.clear()
        self._bytes.clear()
        reserved, self._reserved = self._reserved, []
        for memory in reserved:
            memory.release()

    def leave(self) -> None:
        """Release, but leave the files of inline data in place: a later process goes on with the stream."""
        self.may_be_named = True
        self.release()

    def release(self) -> None:
        """Release everything: the stream has ended."""
        self.free()
        holds, self._holds = self._holds, []
        for hold in holds:
            if self.may_be_named:
                hold.keep()
            hold.release()


def in_memory(store: SessionStore) -> Attachments:
    """Attachments with files in memory, within the default limits."""
    most = MEMORY_FILES_BYTES
    files = Files(MemoryShelf(), file_bytes_max=most, principal_bytes_max=most, bytes_max=most)
    files.open_now()
    return Attachments(files, store)


def names_files(messages: Sequence[ChatMessage]) -> bool:
    """Whether any of the messages names a file."""
    return any(message.parts and message.file_ids for message in messages)


def has_inline(messages: Sequence[ChatMessage]) -> bool:
    """Whether any of the messages has inline data: a picture or document within the request."""
    return next(inline_parts(messages), None) is not None


def check_inline(messages: Sequence[ChatMessage]) -> None:
    """Inspect inline data that is not stored as a file, by the same rules as files.

    Raises:
        InvalidParams: a picture is larger than its header says, or valid as two types at once; with the path of its
            part.
    """
    for inline in inline_parts(messages):
        if not is_text(inline.media.media_type):
            try:
                inspect(inline.media.media_type, a2b_base64(inline.media.base64))
            except RequestError as error:
                raise _at(_path_of(messages, inline), error) from None


def _path_of(messages: Sequence[ChatMessage], inline: InlinePart) -> str:
    return f"messages.{inline.message}.{messages[inline.message].part_path(inline.part)}.url"


def _at(path: str, error: RequestError) -> RequestError:
    return type(error)(
        f"{path}: {error.message}", hint=error.hint, errors=[FieldError(path=path, message=error.message)]
    )


def _file_ids(message: ChatMessage) -> Iterator[tuple[int, str]]:
    """The ids of the files that a message names, each with the number of its part."""
    for number, part in enumerate(message.parts or ()):
        if isinstance(part, MediaPart) and part.file_id is not None:
            yield number, part.file_id


def _encoded_bytes(file: StoredFile) -> int:
    return encoded_bytes(file.size)


def _encoded(file: StoredFile, reader: Reader) -> bytearray:
    """The base64 of a whole file. Encoded in slices, so that the event loop can run in between."""
    encoded = bytearray(_encoded_bytes(file))
    place = 0
    while piece := reader.read(_SLICE_BYTES):
        text = b2a_base64(piece, newline=False)
        encoded[place : place + len(text)] = text
        place += len(text)
    return encoded
