"""What becomes of a provider's chunks on their way to the log."""

from archer_ws.llm_gateway.types import StreamChunk
from archer_ws.sessions.streams.intake import Intake
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.work import StreamIdentity


def test_between_the_decision_and_the_end_nothing_more_comes_into_the_log() -> None:
    # An orphaned task may go on while the completion is judged and stored.
    identity = StreamIdentity(
        stream_id="str_1",
        principal="me",
        session_id=None,
        provider="ollama",
        model="m",
        request_id="req_1",
        fingerprint=b"",
        on_disconnect="continue",
        reasoning_effort=None,
    )
    log = MemoryLog()
    intake = Intake(identity, log)
    intake.take(StreamChunk(content="all that is stored"))
    intake.close()
    intake.take(StreamChunk(content=", and more", finish_reason="length"))
    assert log.text("content") == "all that is stored"
    assert intake.finish_reason is None
