"""The JavaScript and Rust clients and a server of a later time: what they do not know in a stream's log counts."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.fakes.newer_server import LOG, SEQS, TEXT, UNKNOWN_SEQS, newer_server, sse
from tests.fakes.scripted_server import Exchange, Reply, scripted_server
from tests.interop.javascript import Javascript
from tests.interop.scripted_chat import connected
from tests.interop.test_rust_core import rust_core

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("rust_program"), pytest.mark.timeout(600)]

RESUMABLE = SEQS[:-1]
#: A cut behind each event by itself, and behind all of them.
CUTS = [(), *((seq,) for seq in RESUMABLE), RESUMABLE]
READ = """
    const events = [];
    const onEvent = ({ method, params }) => events.push({ method, params });
    const stream = ask(onEvent);
    let text = "";
    for await (const { content = "" } of stream) text += content;
    return { events, text, whole: stream.text, reasoning: stream.reasoning, seq: stream.seq };
"""
SEND = 'const ask = (onEvent) => kept.archer.send({ stream_id: "mine", ...request }, { onEvent });' + READ
RESUME = 'const ask = (onEvent) => kept.archer.resume("mine", { after, onEvent });' + READ
QUESTION = {"messages": [{"role": "user", "content": "Why?"}]}


def unknown_behind(after: int) -> list[dict[str, Any]]:
    """What is told of the events that no client knows: each once, in order, as it came."""
    return [
        {"method": method, "params": {"stream_id": "mine", **params}}
        for method, params in LOG
        if params["seq"] in UNKNOWN_SEQS and params["seq"] > after
    ]


def unknown_of(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["params"]["seq"] in UNKNOWN_SEQS]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_javascript_goes_on_after_any_event_known_or_not(js: Javascript, cuts: tuple[int, ...]) -> None:
    async with newer_server(cuts) as server:
        await connected(js, server.url)
        seen = await js.run(SEND, request=QUESTION)
    assert seen["text"] == seen["whole"] == TEXT
    assert (seen["reasoning"], seen["seq"]) == ("hm", SEQS[-1])
    assert [event["params"]["seq"] for event in seen["events"]] == list(SEQS)
    assert unknown_of(seen["events"]) == unknown_behind(0)
    assert server.afters == list(cuts)
    assert server.asked.count("chat/send") == 1


@pytest.mark.parametrize("after", UNKNOWN_SEQS)
async def test_javascript_resumes_behind_an_unknown_event(js: Javascript, after: int) -> None:
    async with newer_server() as server:
        await connected(js, server.url)
        seen = await js.run(RESUME, after=after)
    assert [event["params"]["seq"] for event in seen["events"]] == [seq for seq in SEQS if seq > after]
    assert server.afters == [after]


@pytest.mark.parametrize("seq", UNKNOWN_SEQS)
async def test_javascript_asks_once_for_an_unknown_event_that_is_missing(js: Javascript, seq: int) -> None:
    async with newer_server(left_out=[seq]) as server:
        await connected(js, server.url)
        seen = await js.run(SEND, request=QUESTION)
    assert seen["text"] == TEXT
    assert unknown_of(seen["events"]) == unknown_behind(0)
    assert server.afters == [max((other for other in SEQS if other < seq), default=0)]


@pytest.mark.parametrize("cuts", [(), (2,), (13,)], ids=str)
async def test_javascript_has_the_whole_text_where_deltas_are_left_out_between_unknown_events(
    js: Javascript, cuts: tuple[int, ...]
) -> None:
    async with newer_server(cuts) as server:
        await connected(js, server.url)
        seen = await js.run(SEND, request={**QUESTION, "stream": False})
    assert seen["text"] == seen["whole"] == TEXT
    assert unknown_of(seen["events"]) == unknown_behind(0)
    assert server.asked.count("chat/send") == 1


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_rust_goes_on_after_any_event_known_or_not(cuts: tuple[int, ...]) -> None:
    async with newer_server(cuts) as server, rust_core("events", server.url, "Why?") as rust:
        lines = await rust.lines()
    assert "".join(line.get("content", "") for line in lines) == TEXT
    assert "".join(line.get("reasoning", "") for line in lines) == "hm"
    unknown = [{"method": line["unknown"], "params": line["params"]} for line in lines if "unknown" in line]
    for event in unknown:
        event["params"]["stream_id"] = "mine"
    assert unknown == unknown_behind(0)
    assert lines[-1] == {"ended": "completed"}
    assert server.afters == list(cuts)
    assert server.asked.count("chat/send") == 1


@pytest.mark.parametrize("after", UNKNOWN_SEQS)
async def test_rust_resumes_behind_an_unknown_event(after: int) -> None:
    async with newer_server() as server, rust_core("resume", server.url, "mine", str(after)) as rust:
        (end,) = await rust.lines()
    texts = [params["content"] for _, params in LOG if params["seq"] > after and "content" in params]
    assert (end["status"], end["text"]) == ("completed", "".join(texts))
    assert server.afters == [after]


@pytest.mark.parametrize("seq", UNKNOWN_SEQS)
async def test_rust_asks_once_for_an_unknown_event_that_is_missing(seq: int) -> None:
    async with newer_server(left_out=[seq]) as server, rust_core("events", server.url, "Why?") as rust:
        lines = await rust.lines()
    assert [line["seq"] for line in lines if "unknown" in line] == list(UNKNOWN_SEQS)
    assert server.afters == [max((other for other in SEQS if other < seq), default=0)]


async def test_rust_tells_of_a_server_that_keeps_leaving_out_events_and_does_not_ask_for_ever() -> None:
    async with newer_server(left_out=[2] * 100) as server, rust_core("events", server.url, "Why?") as rust:
        assert "leaves out events" in await rust.errors()
    assert len(server.afters) < 10


@pytest.mark.parametrize("cut", RESUMABLE)
async def test_rust_goes_on_after_any_server_sent_event_known_or_not(cut: int) -> None:
    def answer(exchange: Exchange) -> Reply:
        after = int(exchange.path.rpartition("after=")[2])
        return Reply(sse(after, cut if after < cut else SEQS[-1]), content_type="text/event-stream")

    async with scripted_server(responder=answer) as server, rust_core("follow", server.url, "mine") as rust:
        *others, end = await rust.lines()
    assert (end["status"], end["text"]) == ("completed", TEXT)
    assert [line["id"] for line in others] == [1, 2, 10, 13]
    assert [exchange.path.rpartition("after=")[2] for exchange in server.exchanges] == ["0", str(cut)]
