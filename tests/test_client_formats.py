"""The Python client and formats: what is asked, and what the finished stream knows of the answer's form."""

import asyncio
from typing import cast

import pytest

from archer_ws.client import Archer, Ended
from archer_ws.client.dialling import Address
from archer_ws.client.events import parse_event
from archer_ws.client.link import Link
from archer_ws.client.stream import ChatStream
from archer_ws.client.uploads import Uploads
from archer_ws.core.exceptions import FieldError
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.types import Refusal

BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object"}}}


class NoLink:
    """Takes streams and sends nothing."""

    def open(self, stream: ChatStream) -> None:
        pass


@pytest.mark.parametrize("given", [BY_SCHEMA, ResponseFormat.model_validate(BY_SCHEMA)])
async def test_a_format_is_sent_as_the_protocol_has_it(given: ResponseFormat) -> None:
    method, params = (
        Archer(cast(Link, NoLink()), Uploads(Address("http://127.0.0.1:8000"), None, 1))
        .chat("Hi", response_format=given)
        .attaching()
    )
    assert (method, params["response_format"]) == ("chat/send", BY_SCHEMA)


async def test_the_finished_stream_tells_what_became_of_the_form() -> None:
    stream = ChatStream(cast(Link, NoLink()), "s", {})
    assert (stream.format_valid, stream.format_errors, stream.refusal) == (None, [], None)
    stream.attached()
    wrong = [{"path": "people", "message": 'it is not of type "integer"'}]
    end = {"stream_id": "s", "seq": 1, "status": "completed", "text_bytes": 0}
    stream.take("stream/ended", {**end, "format_valid": False, "format_errors": wrong, "refusal": {"text": "No."}})
    async with asyncio.timeout(10):
        assert [type(event) async for event in stream.events()] == [Ended]
    assert stream.format_valid is False
    assert stream.format_errors == [FieldError.model_validate(wrong[0])]
    assert stream.refusal == Refusal(text="No.")


def test_an_end_whose_form_is_told_oddly_is_an_end() -> None:
    event = parse_event("stream/ended", {"stream_id": "s", "seq": 1, "status": "completed", "format_errors": 5})
    assert isinstance(event, Ended)
    assert event.format_errors is None
