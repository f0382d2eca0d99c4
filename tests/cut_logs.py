"""Servers with streams whose logs were cut, as a kill cuts them: before the first token, in the text, or nowhere.

What a kill leaves of a log is a matter of moments; here the events are taken out of the file behind it.
"""

import asyncio
import sqlite3
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

from tests.lost_servers import LIMIT_S, Readers, Talking, killed, piece, port_of, serving, until_on_disk, written
from tests.processes import Server

PIECES = 5
#: `started`, and an event for each piece.
HEAD, GAP = 1 + PIECES, 1_000_000


class Cut(NamedTuple):
    """What is left of a log, and the text in it."""

    head: int
    text: str

    @property
    def end(self) -> int:
        return self.head + GAP


#: By the names of their questions: cut before the first event, before the first token, in the text, and not at all.
CUTS = {
    "c0": Cut(0, ""),
    "c1": Cut(1, ""),
    "c2": Cut(3, written("c2", 2)),
    "c3": Cut(HEAD, written("c3", PIECES)),
}


def seen_of(left: Cut) -> dict[int, str]:
    """What a client may have seen last, and where that stands to what was kept."""
    places = {
        max(0, left.head - 1): "behind" if left.head else "level",
        0: "behind" if left.head else "level",
        left.head: "level",
        left.head + 1: "ahead",
        left.end - 2: "ahead",
        left.end - 1: "at the end",
        left.end: "over",
    }
    return dict(sorted(places.items()))


def lacking(name: str, left: Cut, seen: int) -> str:
    """The text that comes to a client."""
    where = seen_of(left)[seen]
    if where == "ahead":
        return left.text
    return left.text[len(written(name, max(0, seen - 1))) :] if where in ("behind", "level") else ""


def cut(folder: Path, stream_id: str, head: int) -> None:
    """Take the stream's events behind `head` out of the file of a killed server, as if they had not been written."""
    with closing(sqlite3.connect(folder / "kept" / "archer.db")) as connection, connection:
        (pk,) = connection.execute("SELECT pk FROM stream WHERE stream_id = ?", (stream_id,)).fetchone()
        connection.execute("DELETE FROM chunk WHERE stream_pk = ? AND first_seq > ?", (pk, head))
        found = "SELECT pk, first_seq, ends, text FROM chunk WHERE stream_pk = ? AND last_seq > ?"
        for chunk, first, ends, text in connection.execute(found, (pk, head)).fetchall():
            kept = array("I", ends)[: head - first + 1]
            length = len(text.encode()) - (array("I", ends)[-1] - kept[-1])
            connection.execute(
                "UPDATE chunk SET last_seq = ?, ends = ?, text = ? WHERE pk = ?",
                (head, kept.tobytes(), text.encode()[:length].decode(), chunk),
            )


@asynccontextmanager
async def cut_logs(tmp_path: Path) -> AsyncIterator[Server]:
    """A server in the place of one that was killed, with a stream `stream-<name>` for each cut."""
    answer = Talking(None)
    async with (
        asyncio.timeout(LIMIT_S),
        serving(answer, tmp_path) as first,
        Readers(first.url, list(CUTS)) as readers,
    ):
        for have in range(1, PIECES):
            await readers.have(have)
            answer.tick()  # One by one: each is an event.
        await readers.have(PIECES)
        await until_on_disk(tmp_path, [piece(name, PIECES - 1) for name in CUTS])
        await killed(first)
        for name, left in CUTS.items():
            assert readers.streams[name].last_seq == HEAD
            cut(tmp_path, f"stream-{name}", left.head)
        async with serving(answer, tmp_path, port_of(first)) as second:
            # Those who were reading are ahead, or level: they have what is left, by themselves.
            assert await readers.lost() == {name: left.text for name, left in CUTS.items()}
            yield second
