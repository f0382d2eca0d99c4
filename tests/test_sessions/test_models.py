from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from archer_ws.core.clock import utc_now
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.rpc.session_messages import SessionSearchParams
from archer_ws.sessions.models import METADATA_BYTES_MAX, Session, SessionCreate, SessionPage, StoredMessage
from archer_ws.sessions.tool_models import Approval


def nested(depth: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(depth - 1):
        metadata = {"a": metadata}
    return metadata


def test_metadata_may_be_16_kib_of_json_and_no_more() -> None:
    room = METADATA_BYTES_MAX - len('{"a": ""}')

    assert SessionCreate(metadata={"a": "x" * room}).metadata
    with pytest.raises(ValidationError, match="at most 16384 bytes of JSON, got 16385"):
        SessionCreate(metadata={"a": "x" * (room + 1)})
    with pytest.raises(ValidationError, match="at most 16384 bytes"):
        SessionCreate(metadata={"a": "é" * (room // 2 + 1)})


@pytest.mark.parametrize(
    "value",
    ["\ud83d", float("nan"), float("inf"), object(), b"bytes", 10**5000],
    ids=["half", "nan", "infinity", "object", "bytes", "digits"],
)
def test_metadata_that_is_not_plain_json_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="plain JSON, without lone surrogates"):
        SessionCreate(metadata={"a": value})


def test_metadata_that_was_accepted_can_be_written_again_however_deep() -> None:
    metadata = SessionCreate(metadata=nested(200)).metadata
    now = utc_now()
    session = Session(session_id="s", metadata=metadata, created_at=now, updated_at=now, message_count=0)

    assert SessionPage(items=[session]).model_dump_json().count("{") > 200
    with pytest.raises(ValidationError, match="nested at most 200 deep"):
        SessionCreate(metadata=nested(202))
    with pytest.raises(ValidationError, match="metadata"):
        SessionCreate(metadata=nested(100_000))


def test_parts_that_only_a_newer_server_knows_are_kept_as_they_came() -> None:
    parts = [
        {"type": "text", "text": "Look."},
        {"type": "hologram", "of": {"what": "a cat"}},
        {"type": "image", "file_id": "f", "detail": "closest"},
    ]
    stored = {
        "message_id": "m",
        "role": "user",
        "content": "Look.",
        "parts": parts,
        "status": "completed",
        "created_at": "2026-11-22T10:15:30Z",
    }
    message = StoredMessage.model_validate(stored)
    assert message.model_dump(mode="json")["parts"] == parts
    # What it does not know it would not say to a provider.
    sent = message.as_chat().parts
    assert sent is not None
    assert [part.type for part in sent] == ["text"]


@pytest.mark.parametrize(
    ("model", "given", "told"),
    [
        (SessionCreate, {"title": "é" * 513}, "at most 512 characters"),
        (SessionSearchParams, {"query": ""}, "at least 1 character"),
        (Approval, {"approved": False, "reason": "x" * 10_001}, "at most 10000 characters"),
        (ChatMessage, {"role": "tool", "content": "", "call_id": "x" * 257}, "at most 256 characters"),
    ],
)
def test_a_text_that_is_too_long_or_too_short_is_told_in_characters(
    model: type[BaseModel], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        model.model_validate(given)
