"""A program that imports, copies, replaces and deletes a long conversation again and again until it is killed, and
writes a line for each transaction that is on disk.

`python -m tests.fakes.sqlite_copier FOLDER MESSAGES`: of so many messages of 20 KB.
"""

import asyncio
import itertools
import sys
import time
from pathlib import Path

from archer_ws.core.clock import utc_now
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.models import ExportedSession, StoredMessage
from tests.fakes.sqlite_files import sqlite_store


def long_conversation(session_id: str, messages: int) -> ExportedSession:
    """A conversation of so many messages, `m0` and so on, of the words `m0 sky sky ...`."""
    now = utc_now()
    return ExportedSession(
        session_id=session_id,
        created_at=now,
        updated_at=now,
        message_count=messages,
        messages=[
            StoredMessage(
                message_id=f"m{number}",
                role=MessageRole.USER,
                content=f"m{number} " + "sky " * 5000,
                status="completed",
                created_at=now,
                parent_id=f"m{number - 1}" if number else None,
            )
            for number in range(messages)
        ],
    )


async def main(folder: Path, messages: int) -> None:
    store = sqlite_store(folder, wait_s=10)
    await store.open()
    stored = store._database.stored

    def told() -> None:
        stored()
        print("stored", flush=True)

    store._database.stored = told  # type: ignore[method-assign]
    run = time.time_ns()
    for number in itertools.count():
        name = f"{run}.{number}"
        await store.import_session("ann", long_conversation(name, messages))
        await store.fork("ann", name, new_session_id=f"{name}.copy")
        turn = [ChatMessage(role=MessageRole.USER, content="anew")]
        await store.begin_turn("ann", name, turn, stream_id=name, replace_from="m0")
        await store.delete("ann", f"{name}.copy")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
