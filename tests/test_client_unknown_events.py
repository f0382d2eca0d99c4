"""The Python client and a server of a later time: what it does not know in a stream's log counts, and is not lost."""

import asyncio
from itertools import pairwise

import pytest

from archer_ws.client import Archer, Backoff, Delta, Ended, Started, StreamEvent, UnknownEvent, connect
from tests.fakes.newer_server import LOG, SEQS, TEXT, UNKNOWN_SEQS, newer_server

LIMIT_S = 60
RESUMABLE = SEQS[:-1]


def impatient(url: str) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0))


def unknown_in(events: list[StreamEvent]) -> list[UnknownEvent]:
    return [event for event in events if isinstance(event, UnknownEvent)]


@pytest.mark.parametrize("cuts", [(), *((seq,) for seq in RESUMABLE), RESUMABLE], ids=str)
async def test_behind_a_cut_at_any_event_it_goes_on_after_that_event_known_or_not(cuts: tuple[int, ...]) -> None:
    async with asyncio.timeout(LIMIT_S), newer_server(cuts) as server, impatient(server.url) as client:
        stream = client.chat("Why?")
        events = [event async for event in stream.events()]
        assert stream.text == TEXT == "".join(event.content for event in events if isinstance(event, Delta))
        assert stream.reasoning == "hm"
        assert [event.params["seq"] for event in unknown_in(events)] == list(UNKNOWN_SEQS)
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Ended)
        assert stream.last_seq == SEQS[-1]
    assert server.afters == list(cuts)
    assert server.asked == ["chat/send", *["stream/subscribe"] * len(cuts)]


async def test_an_unknown_event_is_told_in_its_place_and_as_it_came() -> None:
    async with asyncio.timeout(LIMIT_S), newer_server() as server, impatient(server.url) as client:
        stream = client.chat("Why?")
        events = [event async for event in stream.events()]
    told = [type(event) for event in events]
    assert told == [Started, UnknownEvent, Delta, UnknownEvent, Delta, UnknownEvent, Delta, Delta, UnknownEvent, Ended]
    unknown = [(method, params) for method, params in LOG if params["seq"] in UNKNOWN_SEQS]
    assert [(event.method, event.params) for event in unknown_in(events)] == [
        (method, {"stream_id": stream.stream_id, **params}) for method, params in unknown
    ]


async def test_who_reads_the_text_alone_gets_the_text_alone() -> None:
    async with asyncio.timeout(LIMIT_S), newer_server() as server, impatient(server.url) as client:
        assert "".join([text async for text in client.chat("Why?")]) == TEXT


@pytest.mark.parametrize(("after", "before"), [(second, first) for first, second in pairwise((0, *UNKNOWN_SEQS))])
async def test_a_stream_is_resumed_behind_an_unknown_event(after: int, before: int) -> None:
    async with asyncio.timeout(LIMIT_S), newer_server() as server, impatient(server.url) as client:
        events = [event async for event in client.resume("mine", after).events()]
        again = [event async for event in client.resume("mine", before).events()]
    assert server.afters == [after, before]
    assert [event.params["seq"] for event in unknown_in(events)] == [seq for seq in UNKNOWN_SEQS if seq > after]
    assert [event.params["seq"] for event in unknown_in(again)] == [seq for seq in UNKNOWN_SEQS if seq > before]


@pytest.mark.parametrize("seq", UNKNOWN_SEQS)
async def test_an_unknown_event_that_is_missing_is_asked_for_once(seq: int) -> None:
    async with asyncio.timeout(LIMIT_S), newer_server(left_out=[seq]) as server, impatient(server.url) as client:
        stream = client.chat("Why?")
        events = [event async for event in stream.events()]
    assert stream.text == TEXT
    assert [event.params["seq"] for event in unknown_in(events)] == list(UNKNOWN_SEQS)
    assert server.afters == [max((other for other in SEQS if other < seq), default=0)]


async def test_what_a_newer_server_adds_to_a_message_is_kept() -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "hologram", "file_id": "f"}]
    message = {"message_id": "m", "role": "user", "content": "Look:", "status": "completed", "parts": parts}
    times = {"created_at": "2026-11-01T12:00:00Z", "updated_at": "2026-11-01T12:00:00Z"}
    messages = [{**message, "created_at": times["created_at"], "holographic": True}]
    session = {"session_id": "s", **times, "message_count": 1, "active_streams": [], "messages": messages}
    async with (
        asyncio.timeout(LIMIT_S),
        newer_server(results={"session/get": session}) as server,
        impatient(server.url) as client,
    ):
        (stored,) = (await client.sessions.get("s")).messages
    assert stored.content == "Look:"
    assert [part.model_dump(exclude_none=True) for part in stored.parts or ()] == parts
    assert stored.model_extra == {"holographic": True}
