"""`archer-ws serve` killed in the middle of its answers, and started again: what people were reading is there."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.sse_reader import Received, read_events, text_of
from tests.lost_servers import LIMIT_S, Readers, Talking, killed, piece, port_of, serving, until_on_disk, written
from tests.processes import Server


async def stored(running: Server, name: str) -> list[tuple[str, str, str]]:
    session = (await running.http.get(f"/api/v1/sessions/{name}")).json()
    assert session["active_streams"] == []
    return [(each["role"], each["content"], each["status"]) for each in session["messages"]]


async def assert_whole(running: Server, texts: dict[str, str]) -> None:
    """What is stored is what the readers have, and each stream has one end."""
    for name, text in texts.items():
        answer = [("assistant", text, "incomplete")] if text else []
        assert await stored(running, name) == [("user", name, "completed"), *answer]
    listed = (await running.http.get("/api/v1/streams?limit=200")).json()["items"]
    assert sorted(each["stream_id"] for each in listed) == sorted(f"stream-{name}" for name in texts)
    assert {each["status"] for each in listed} == {"incomplete"}


def names(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


async def test_a_server_killed_in_the_middle_of_fifty_answers_keeps_what_people_were_reading(tmp_path: Path) -> None:
    answer = Talking(20)
    async with (
        asyncio.timeout(LIMIT_S * 2),
        serving(answer, tmp_path) as first,
        Readers(first.url, names(50)) as readers,
    ):
        await readers.have(20)
        await until_on_disk(tmp_path, [piece(name, 19) for name in readers.streams])
        await killed(first)

        async with serving(answer, tmp_path, port_of(first)) as second:
            texts = await readers.lost()

            assert texts == {name: written(name, 20) for name in readers.streams}
            await assert_whole(second, texts)


async def test_a_server_killed_again_and_again_between_two_writes_loses_nothing_but_the_newest_text(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    rounds, streams = (10, 200) if pytestconfig.getoption("long") else (2, 20)
    for number in range(rounds):
        answer = Talking(None)
        folder = tmp_path / str(number)
        async with (
            asyncio.timeout(LIMIT_S * 4),
            serving(answer, folder) as first,
            Readers(first.url, names(streams)) as readers,
        ):
            # At another place each time; the newest was not written yet, or was.
            for have in range(1, 4 + 7 * number):
                await readers.have(have)
                answer.tick()
            await readers.have(have)
            seen = {name: stream.text for name, stream in readers.streams.items()}
            await killed(first)

            async with serving(answer, folder, port_of(first)) as second:
                texts = await readers.lost()

                for name, text in texts.items():
                    assert written(name, have + 2).startswith(text)
                    assert seen[name].startswith(text) or text.startswith(seen[name])
                await assert_whole(second, texts)


async def seen_events(running: Server, stream_id: str, **asked: Any) -> list[Received]:
    async with running.http.stream("GET", f"/api/v1/streams/{stream_id}/events", **asked) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in read_events(response)]


async def test_after_a_kill_a_stream_is_read_over_every_road(tmp_path: Path) -> None:
    answer = Talking(3)
    async with asyncio.timeout(LIMIT_S), serving(answer, tmp_path) as first, Readers(first.url, ["sky"]) as readers:
        await readers.have(3)
        await until_on_disk(tmp_path, [piece("sky", 2)])
        await killed(first)
        async with serving(answer, tmp_path, port_of(first)) as second:
            await readers.lost()
            text, path = written("sky", 3), "/api/v1/streams/stream-sky"

            info = (await second.http.get(path)).json()
            assert (info["status"], info["text_bytes"], info["session_id"]) == ("incomplete", len(text), "sky")
            assert info["error"]["kind"] == "worker_lost"
            end = info["head_seq"]

            for after in (0, 1, end - 1_000_000):
                events = await seen_events(second, "stream-sky", params={"after": after})
                assert text.endswith(text_of(events)), after
                assert not any(event.json.get("reset") for event in events[:-1])
                assert [event.event for event in events[-2:]] == ["ended", None]
                assert int(events[-3].id or 0) == end - 1
            ahead = await seen_events(second, "stream-sky", headers={"Last-Event-ID": "17"})
            assert (ahead[0].json["reset"], text_of(ahead)) == (True, text)
            # An EventSource that saw the end stops asking.
            over = await second.http.get(f"{path}/events", headers={"Last-Event-ID": str(end)})
            assert over.status_code == 204
            past = await second.http.get(f"{path}/events", params={"after": end + 1})
            assert past.status_code == 204

            asked = {"messages": [{"role": "user", "content": "sky"}], "session_id": "sky"}
            again = await second.http.post("/api/v1/chat/completions", json={**asked, "stream_id": "stream-sky"})
            assert (again.status_code, again.json()["content"]) == (503, text)
            assert again.json()["error"]["kind"] == "worker_lost"
            other = {**asked, "stream_id": "stream-sky", "temperature": 0.1}
            conflict = await second.http.post("/api/v1/chat/completions", json=other)
            assert conflict.json()["error"]["kind"] == "stream_id_conflict"
            cancelled = await second.http.delete(path)
            assert cancelled.json() == {"outcome": "already_ended", "status": "incomplete"}
            assert second.chats.empty()


async def test_a_stream_goes_with_its_session_on_the_disk_too(tmp_path: Path) -> None:
    answer = Talking(3)
    async with asyncio.timeout(LIMIT_S), serving(answer, tmp_path) as first, Readers(first.url, ["sky"]) as readers:
        await readers.have(3)
        await until_on_disk(tmp_path, [piece("sky", 2)])
        await killed(first)
        async with serving(answer, tmp_path, port_of(first)) as second:
            await readers.lost()
            assert (await second.http.delete("/api/v1/sessions/sky")).status_code == 204
            for path in ("", "/events", "/events"):  # The first reader is told what all are told.
                gone = await second.http.get(f"/api/v1/streams/stream-sky{path}")
                assert (gone.status_code, gone.json()["error"]["kind"]) == (404, "stream_not_found")


async def test_a_server_that_stood_still_for_seconds_goes_on_and_keeps_what_came(tmp_path: Path) -> None:
    answer = Talking(None)
    async with (
        asyncio.timeout(LIMIT_S),
        serving(answer, tmp_path) as first,
        Readers(first.url, names(5)) as readers,
    ):
        await readers.have(1)
        first.program.send_signal(signal.SIGSTOP)
        # It is the time itself that matters, not what happens in it.
        for _ in range(30):
            answer.tick()
            await asyncio.sleep(0.1)
        first.program.send_signal(signal.SIGCONT)
        await readers.have(20)
        await until_on_disk(tmp_path, [piece(name, 19) for name in readers.streams])
        await killed(first)
        async with serving(answer, tmp_path, port_of(first)) as second:
            texts = await readers.lost()
            assert all(text.startswith(written(name, 20)) for name, text in texts.items())
            await assert_whole(second, texts)
