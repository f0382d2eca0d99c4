"""The actions of `archer-ws sessions ACTION`, and their exit statuses: 0 done, 1 partly or not done, 2 wrong usage.

Requested output goes to standard output, everything else to standard error.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

from archer_ws.core.current_folder import is_told_gone
from archer_ws.core.home import with_home
from archer_ws.sessions.storage.sqlite.failures import RESTORING
from archer_ws.sessions.storage.words import QUERY_WORDS_MAX
from archer_ws.terminal.conversations.showing import (
    conversation_lines,
    deleted_told,
    found_lines,
    import_lines_told,
    session_lines,
)
from archer_ws.terminal.conversations.source import Source, SourceError
from archer_ws.terminal.screen import printable

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class ConversationPlace:
    """Where the conversations are: at a server, or in a file if `folder` is set."""

    url: str
    token: str | None
    folder: Path | None
    principal: str | None


class _CalledWronglyError(Exception):
    """What is wrong with the options, for a person."""


def run(options: argparse.Namespace, place: ConversationPlace) -> int:
    """Run the action that the options name; returns the exit status."""
    try:
        _check(options, place)
        source = _open(place)
        try:
            return _ACTIONS[options.action](source, options)
        finally:
            source.close()
    except _CalledWronglyError as error:
        return _fail(str(error), None, 2)
    except SourceError as error:
        return _fail(error.message, error.hint, 1)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or is_told_gone(error):
            raise
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}", None, 1)


def _check(options: argparse.Namespace, place: ConversationPlace) -> None:
    if place.principal is not None and place.folder is None:
        raise _CalledWronglyError("--principal goes with --data-dir: a server knows the principal by ARCHER_TOKEN")
    if options.action == "backup" and place.folder is None:
        raise _CalledWronglyError(
            "backup needs --data-dir, the folder of a stopped server; a running one returns its conversations by export"
        )
    if options.action == "search":
        count = len(" ".join(options.words).split())
        if not 0 < count <= QUERY_WORDS_MAX:
            told = f"these are {count}" if count else "a blank is none"
            raise _CalledWronglyError(f"search needs 1 to {QUERY_WORDS_MAX} words: {told}")
    if options.action == "delete":
        if options.all and options.session_ids:
            raise _CalledWronglyError("delete takes the ids of conversations or --all, not both")
        if not options.all and not options.session_ids:
            raise _CalledWronglyError("delete needs the ids of conversations, or --all")
        if options.all and not options.yes:
            raise _CalledWronglyError("delete --all deletes all conversations permanently: add --yes if that is meant")


def _open(place: ConversationPlace) -> Source:
    if place.folder is None:
        from archer_ws.terminal.conversations.served import ServedConversations

        return ServedConversations(place.url, place.token)
    from archer_ws.terminal.conversations.kept import KeptConversations

    return KeptConversations(place.folder, place.principal)


def _list(source: Source, options: argparse.Namespace) -> int:
    shown, more = _first(source.sessions(True if options.archived else None), options.limit)
    if options.json:
        _print_json({"items": shown})
    else:
        _print(session_lines(shown))
    _say_what_is_not_there(more, shown, "There are no conversations.")
    return 0


def _show(source: Source, options: argparse.Namespace) -> int:
    session, messages = source.session(options.session_id)
    if options.json:
        head = {name: value for name, value in session.model_dump(mode="json").items() if name != "messages"}
        _print_json({**head, "messages": messages})
    else:
        _print(conversation_lines(session, messages))
    return 0


def _search(source: Source, options: argparse.Namespace) -> int:
    shown, more = _first(source.found(" ".join(options.words)), options.limit)
    if options.json:
        _print_json({"items": shown})
    else:
        _print(found_lines(shown))
    _say_what_is_not_there(more, shown, "Nothing was found.")
    return 0


def _export(source: Source, options: argparse.Namespace) -> int:
    if options.file is None:
        _write(source.export(), sys.stdout.buffer)
        return 0
    try:
        _write_to_path(source.export(), Path(options.file))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            error.filename = options.file  # not the one beside it, which the person did not name
        raise
    return 0


def _write_to_path(blocks: Iterable[bytes], path: Path) -> None:
    if path.exists() and not path.is_file():
        # A pipe or a device, such as /dev/stdout, is written to. A file in its place would be no good.
        with path.open("wb") as pipe:
            _write(blocks, pipe)
        return
    # Written completely or not at all: half of an export looks like an export of fewer conversations.
    path = path.resolve()  # A link stays, and leads to the export.
    unfinished = path.with_name(f"{path.name}.unfinished")
    # That of an export that was killed. In a shared folder it may as well be somebody else's link or file.
    unfinished.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _write(blocks, file)
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _write(blocks: Iterable[bytes], file: BinaryIO) -> None:
    for block in blocks:
        file.write(block)
    file.flush()


def _import(source: Source, options: argparse.Namespace) -> int:
    if options.file is None:
        result = source.take(sys.stdin.buffer)
    else:
        with Path(options.file).open("rb") as file:
            result = source.take(file)
    if options.json:
        _print_json(result)
    else:
        told = list(import_lines_told(result))
        _print(told[:1])
        _notice(told[1:])
    return 1 if result.failed else 0


def _delete(source: Source, options: argparse.Namespace) -> int:
    count, failures = 0, []
    if options.all:
        count = source.delete_all()
    for session_id in options.session_ids:
        try:
            source.delete(session_id)
            count += 1
        except SourceError as error:
            failures.append(error.message)
    if options.json:
        _print_json({"deleted": count, "failed": failures})
    else:
        _print([deleted_told(count)])
    _notice(failures)
    return 1 if failures else 0


def _backup(source: Source, options: argparse.Namespace) -> int:
    path = Path(options.file)
    source.backup(path)
    told = {"file": str(path), "bytes": with_home(path).stat().st_size}
    if options.json:
        _print_json(told)
    else:
        _print([f"{told['bytes']} bytes are in {told['file']}. To restore them, stop the server, {RESTORING}."])
    return 0


_ACTIONS = {
    "list": _list,
    "show": _show,
    "search": _search,
    "export": _export,
    "import": _import,
    "delete": _delete,
    "backup": _backup,
}


def _first(items: Iterator[_Item], count: int) -> tuple[list[_Item], bool]:
    """The first items, and whether there are more."""
    shown = list(islice(items, count))
    return shown, next(items, None) is not None


def _say_what_is_not_there(is_more: bool, shown: list[_Item], nothing: str) -> None:
    if is_more:
        _notice(["There are more: raise --limit."])
    elif not shown:
        _notice([nothing])


def _print_json(value: BaseModel | dict[str, object]) -> None:
    sys.stdout.write(f"{to_json(value, indent=2).decode()}\n")


def _print(lines: Iterable[str]) -> None:
    _write_lines(sys.stdout, lines)


def _notice(lines: Iterable[str]) -> None:
    _write_lines(sys.stderr, lines)


def _fail(message: str, hint: str | None, status: int) -> int:
    _notice(f"archer-ws: {line}" for line in (message, *([hint] if hint else [])))
    return status


def _write_lines(out: TextIO, lines: Iterable[str]) -> None:
    """Write lines. Even ids and errors may be anything: perhaps another program answers in the server's place."""
    for line in lines:
        out.write(f"{printable(line)}\n")
