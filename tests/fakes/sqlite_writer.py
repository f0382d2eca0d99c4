"""A program that stores turns in a folder until it is killed, and writes a line for each that was acknowledged.

`python -m tests.fakes.sqlite_writer FOLDER SESSIONS`: in so many sessions at once, each turn with its answer.
"""

import asyncio
import itertools
import sys
import time
from pathlib import Path

from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.storage.values import StoredCompletion
from tests.fakes.sqlite_files import sqlite_store


async def main(folder: Path, sessions: int) -> None:
    store = sqlite_store(folder, wait_s=10)
    await store.open()
    run = time.time_ns()

    async def converse(session_id: str) -> None:
        await store.create("ann", session_id, None, None)
        for number in itertools.count():
            stream_id = f"{run}.{session_id}.{number}"
            turn = [ChatMessage(role=MessageRole.USER, content=f"q {stream_id}")]
            stored = await store.begin_turn("ann", session_id, turn, stream_id=stream_id)
            print(f"q {stream_id}", flush=True)
            answer = StoredCompletion(f"a {stream_id}", "completed")
            await store.append_completion(
                "ann", session_id, answer, after=stored.messages[-1].message_id, stream_id=stream_id
            )
            print(f"a {stream_id}", flush=True)

    await asyncio.gather(*(converse(f"s{number}") for number in range(sessions)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
