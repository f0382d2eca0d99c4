"""A log cut before its first token; a client ahead, level, behind: over the socket, events, REST and in Python."""

import json
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import websockets

from archer_ws.client import ChatStream, Delta, Ended, connect
from archer_ws.rpc.messages import SUBPROTOCOL
from tests.cut_logs import CUTS, Cut, cut_logs, lacking, seen_of
from tests.fakes.sse_reader import read_events
from tests.processes import Server


class Came(NamedTuple):
    """What came to a reader behind the last event that it had seen: numbers, texts, whether it was told to discard."""

    first: int
    last: int
    text: str
    reset: bool


def check(name: str, left: Cut, seen: int, came: list[Came], *, ended: list[int]) -> None:
    """That what came is what section 26 of the protocol has in its table."""
    where, told = seen_of(left)[seen], (name, left, seen, came)
    if where == "over":
        assert (came, ended) == ([], []), told
        return
    assert ended == [left.end], told
    if where == "at the end":
        assert came == [], told
        return
    assert came[-1].last == left.end - 1, told
    # The first alone may say that all before it is to be discarded, and then it begins the log anew.
    assert [each.reset for each in came] == [where == "ahead", *[False] * (len(came) - 1)], told
    # Who has seen nothing gets `started`, too, which is not among these.
    assert came[0].first == (1 if where == "ahead" else max(seen, min(left.head, 1)) + 1), told
    for one, next_one in pairwise(came):
        assert next_one.first == one.last + 1, told
    assert "".join(each.text for each in came) == lacking(name, left, seen), told


async def test_a_log_cut_before_its_first_token_and_a_client_ahead_level_and_behind_on_the_socket(
    tmp_path: Path,
) -> None:
    async with cut_logs(tmp_path) as running:
        for name, left in CUTS.items():
            for seen in seen_of(left):
                came, ended = await over_the_socket(running, f"stream-{name}", seen)
                check(name, left, seen, came, ended=ended)


async def over_the_socket(running: Server, stream_id: str, seen: int) -> tuple[list[Came], list[int]]:
    url = running.url.replace("http", "ws", 1) + "/api/v1/ws"
    calls = [
        ("initialize", {"protocol_version": 1}),
        ("stream/subscribe", {"stream_id": stream_id, "after": seen}),
        ("ping", {}),
    ]
    came, ended = list[Came](), list[int]()
    async with websockets.connect(url, subprotocols=[websockets.Subprotocol(SUBPROTOCOL)]) as socket:
        for number, (method, params) in enumerate(calls, 1):
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        waiting = {1, 2, 3}
        while waiting or not (ended or seen_last(seen, stream_id)):
            frame = json.loads(await socket.recv())
            assert "error" not in frame, frame
            waiting.discard(frame.get("id"))
            match frame.get("method"), frame.get("params"):
                case "stream/delta", told:
                    came.append(Came(told["from"], told["seq"], told.get("content", ""), told.get("reset", False)))
                case "stream/ended", told:
                    assert (told["status"], told["error"]["kind"]) == ("incomplete", "worker_lost")
                    ended.append(told["seq"])
    return came, ended


def seen_last(seen: int, stream_id: str) -> bool:
    return seen == CUTS[stream_id.removeprefix("stream-")].end


async def test_a_log_cut_before_its_first_token_and_a_client_ahead_level_and_behind_over_events(
    tmp_path: Path,
) -> None:
    async with cut_logs(tmp_path) as running:
        for name, left in CUTS.items():
            for seen in seen_of(left):
                came, ended = await over_events(running, f"stream-{name}", seen)
                check(name, left, seen, came, ended=ended)


async def over_events(running: Server, stream_id: str, seen: int) -> tuple[list[Came], list[int]]:
    came, ended, last = list[Came](), list[int](), seen
    path = f"/api/v1/streams/{stream_id}/events"
    async with running.http.stream("GET", path, headers={"Last-Event-ID": str(seen)} if seen else {}) as response:
        assert response.status_code == (204 if seen_last(seen, stream_id) else 200)
        async for event in read_events(response):
            if event.data == "[DONE]":
                continue
            told, number = event.json, int(event.id or 0)
            assert number > last or told.get("reset")
            if event.event == "ended":
                ended.append(number)
            elif event.event is None:
                came.append(
                    Came(1 if told.get("reset") else last + 1, number, told["content"], bool(told.get("reset")))
                )
            last = number
    return came, ended


async def test_a_log_cut_before_its_first_token_is_what_rest_has(tmp_path: Path) -> None:
    async with cut_logs(tmp_path) as running:
        for name, left in CUTS.items():
            text = left.text
            info = (await running.http.get(f"/api/v1/streams/stream-{name}")).json()
            assert (info["status"], info["head_seq"], info["text_bytes"]) == ("incomplete", left.end, len(text))
            assert (info["error"]["kind"], info["error"]["retryable"]) == ("worker_lost", True)
            session = (await running.http.get(f"/api/v1/sessions/{name}")).json()
            answers = [(each["content"], each["status"]) for each in session["messages"][1:]]
            assert answers == ([(text, "incomplete")] if text else [])


async def test_a_log_cut_before_its_first_token_and_a_client_ahead_level_and_behind_in_python(tmp_path: Path) -> None:
    async with cut_logs(tmp_path) as running, connect(running.url) as archer:
        for name, left in CUTS.items():
            for seen in seen_of(left):
                if seen_last(seen, f"stream-{name}"):
                    continue  # It has the end, and asks for nothing.
                came, ended = await in_python(archer.resume(f"stream-{name}", after=seen))
                assert ended == [left.end]
                assert any(delta.reset for delta in came) == (seen_of(left)[seen] == "ahead")
                assert "".join(delta.content or "" for delta in came) == lacking(name, left, seen)


async def in_python(stream: ChatStream) -> tuple[list[Delta], list[int]]:
    came, ended = list[Delta](), list[int]()
    async for event in stream.events():
        if isinstance(event, Delta):
            came.append(event)
        elif isinstance(event, Ended):
            assert (event.status, event.error and event.error.kind) == ("incomplete", "worker_lost")
            ended.append(event.seq)
    return came, ended
