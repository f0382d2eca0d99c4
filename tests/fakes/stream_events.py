"""Events of a stream for tests that care for their kind and number, and for little else."""

from typing import Any

from archer_ws.sessions.streams.events import StreamEnded, StreamProgress, StreamStarted, StreamStep

STREAM_ID = "str_1"


def started(seq: int) -> StreamStarted:
    """The provider answered."""
    return StreamStarted(stream_id=STREAM_ID, seq=seq, provider="ollama", model="llama3.2")


def queued(seq: int) -> StreamProgress:
    """The provider is busy."""
    return StreamProgress(stream_id=STREAM_ID, seq=seq, phase="queued")


def begun(seq: int, **fields: Any) -> StreamStep:
    """The second step begins."""
    return StreamStep(stream_id=STREAM_ID, seq=seq, step=2, **fields)


def ended(seq: int, **fields: Any) -> StreamEnded:
    """The end, by default a good one of no text."""
    return StreamEnded(**{"stream_id": STREAM_ID, "seq": seq, "status": "completed", "text_bytes": 0, **fields})
