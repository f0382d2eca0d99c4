"""The Rust client runs the calls that a stream waits for: once, whatever is lost, and while it matters."""

from typing import Any

import pytest

from tests.fakes.exchange_server import FIRST, Call, exchange_server
from tests.interop.test_rust_core import RustCore, ends, rust_core

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

NOWHERE = '{"city": "nowhere"}'


def ran(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(line["ran"] for line in lines if "ran" in line)


async def until(rust: RustCore, what: str) -> None:
    while what not in await rust.line():
        pass


async def test_a_call_is_claimed_and_run_and_the_stream_goes_on() -> None:
    async with exchange_server(Call("c1"), Call("c2")) as server, rust_core("run", server.url, "Rain?") as rust:
        lines = await rust.lines()
    assert ran(lines) == ["c1", "c2"]
    assert {"step": 2, "before": FIRST} in lines
    assert (lines[-1]["status"], lines[-1]["text"]) == ("completed", "c1 ok; c2 ok")
    declared = {"name": "get_weather", "description": "The weather in a city, now."}
    assert (server.request["tools"], server.request["on_tool_call"]) == ([declared], "wait")
    claims = {claim["call_id"]: claim["claim"] for claim in server.asked_of("tool/claim")}
    told = {result["call_id"]: result for result in server.asked_of("tool/result")}
    assert {call_id: result["claim"] for call_id, result in told.items()} == claims
    assert (told["c1"]["content"], told["c1"]["status"]) == ("rain in Oslo", "ok")


@pytest.mark.parametrize(
    "lost",
    [
        ["chat/send"],
        ["tool/claim"],
        ["tool/result"],
        ["tool/claim", "tool/claim", "tool/result", "tool/result"],
        ["chat/send", "tool/claim", "tool/result", "stream/subscribe", "stream/subscribe"],
    ],
    ids=str,
)
async def test_whatever_answer_is_lost_each_call_runs_once(lost: list[str]) -> None:
    async with (
        exchange_server(Call("c1"), Call("c2"), lost=lost) as server,
        rust_core("run", server.url, "Rain?") as rust,
    ):
        lines = await rust.lines()
    assert ran(lines) == ["c1", "c2"]
    assert lines[-1]["text"] == "c1 ok; c2 ok"
    claims = {(claim["call_id"], claim["claim"]) for claim in server.asked_of("tool/claim")}
    assert len(claims) == 2, "a claim was made twice"


async def test_a_claim_is_held_over_the_next_connection_too() -> None:
    async with (
        exchange_server(Call("c1", arguments=NOWHERE)) as server,
        rust_core("run", server.url, "Rain?") as rust,
    ):
        await until(rust, "ran")
        await server.close_all()
        await server.until("tool/claim", 2)
        await server.settle("c1", "timeout")
        lines = await rust.lines()
    first, second = server.asked_of("tool/claim")
    assert first == second
    assert ran(lines) == []


async def test_a_handler_is_dropped_when_its_call_is_settled_elsewhere() -> None:
    async with (
        exchange_server(Call("c1", arguments=NOWHERE)) as server,
        rust_core("run", server.url, "Rain?") as rust,
    ):
        await until(rust, "ran")
        await server.settle("c1", "timeout")
        lines = await rust.lines()
    assert {"dropped": "c1"} in lines
    (end,) = ends(lines).values()
    assert end["text"] == "c1 timeout"
    assert not server.asked_of("tool/result")


async def test_a_handler_is_dropped_when_the_stream_ends() -> None:
    async with (
        exchange_server(Call("c1", arguments=NOWHERE)) as server,
        rust_core("run", server.url, "Rain?") as rust,
    ):
        await until(rust, "ran")
        await server.end("cancelled", reason="client")
        lines = await rust.lines()
    assert {"dropped": "c1"} in lines
    assert not server.asked_of("tool/result")


@pytest.mark.parametrize(
    ("city", "content"), [("error", "there is no such city"), ("panic", "the tool panicked"), (None, None)]
)
async def test_what_goes_wrong_in_a_tool_is_told_to_the_model(city: str | None, content: str | None) -> None:
    call = Call("c1", arguments='{"city": "' + city + '"}' if city else "no JSON")
    async with exchange_server(call) as server, rust_core("run", server.url, "Rain?") as rust:
        lines = await rust.lines()
    (result,) = server.asked_of("tool/result")
    assert result["status"] == "error"
    assert result["content"] == content or (content is None and result["content"])
    assert lines[-1]["text"] == "c1 error"


@pytest.mark.parametrize(
    ("person", "told", "calls", "text"),
    [
        ("yes", {"approved": True}, ["c1"], "c1 ok"),
        ("no: not there", {"approved": False, "reason": "not there"}, [], "c1 denied"),
        ("no: " + 12_000 * "é", {"approved": False, "reason": 10_000 * "é"}, [], "c1 denied"),
    ],
)
async def test_a_person_is_asked_once_and_a_call_runs_only_where_they_agree(
    person: str, told: dict[str, Any], calls: list[str], text: str
) -> None:
    async with (
        exchange_server(Call("c1", needs_approval=True), lost=["tool/approve"]) as server,
        rust_core("run", server.url, "Rain?", person) as rust,
    ):
        lines = await rust.lines()
    assert [line["asked"] for line in lines if "asked" in line] == ["c1"]
    assert (ran(lines), lines[-1]["text"]) == (calls, text)
    assert all({name: approval.get(name) for name in told} == told for approval in server.asked_of("tool/approve"))
    assert server.request["tools"][0]["needs_approval"] is True


@pytest.mark.parametrize(("person", "withdrawn"), [("silent", ["c1"]), ("none", [])])
async def test_another_client_can_approve_what_nobody_here_did(person: str, withdrawn: list[str]) -> None:
    async with (
        exchange_server(Call("c1", needs_approval=True)) as server,
        rust_core("run", server.url, "Rain?", person) as rust,
    ):
        await server.until("chat/send")
        if withdrawn:
            await until(rust, "asked")
        assert not server.asked_of("tool/claim")
        await server.approve("c1")
        lines = await rust.lines()
    assert [line["dropped"] for line in lines if "dropped" in line] == withdrawn
    assert (ran(lines), lines[-1]["text"]) == (["c1"], "c1 ok")


async def test_a_call_whose_result_stands_further_on_in_a_replay_is_not_run() -> None:
    async with exchange_server(Call("c1"), Call("c2")) as server:
        server.begin("mine")
        await server.settle("c1", "ok", "from elsewhere")
        server.held_at = 3
        async with rust_core("take", server.url, "mine") as rust:
            await until(rust, "call")
            await server.release()
            lines = await rust.lines()
    assert ran(lines) == ["c2"]
    assert lines[-1]["text"] == "c1 ok; c2 ok"
    assert [claim["call_id"] for claim in server.asked_of("tool/claim")] == ["c2"]


async def test_of_two_clients_with_the_handler_one_runs_the_call_and_both_see_it() -> None:
    calls = [Call(f"c{number}", needs_approval=True) for number in range(1, 6)]
    async with exchange_server(*calls) as server:
        server.begin("mine")
        async with rust_core("take", server.url, "mine") as one, rust_core("take", server.url, "mine") as other:
            await server.until("stream/subscribe", 2)
            for call in calls:
                await server.approve(call.call_id)
            both = [await one.lines(), await other.lines()]
    assert ran(both[0] + both[1]) == [call.call_id for call in calls]
    assert {lines[-1]["text"] for lines in both} == {"; ".join(f"{call.call_id} ok" for call in calls)}


async def test_who_lets_a_stream_go_says_that_nothing_comes_of_a_call_that_runs() -> None:
    async with (
        exchange_server(Call("c1", arguments=NOWHERE)) as server,
        rust_core("run-detach", server.url, "Rain?") as rust,
    ):
        await rust.lines()
    (result,) = server.asked_of("tool/result")
    assert (result["status"], result["content"]) == ("error", "the stream was left")


@pytest.mark.parametrize("lost", [[], ["tool/approve"], ["tool/result"], ["tool/approve", "tool/result"]], ids=str)
async def test_a_call_that_was_denied_here_does_not_run_here_though_another_client_approved_it_first(
    lost: list[str],
) -> None:
    async with exchange_server(Call("c1", needs_approval=True), lost=lost) as server:
        server.approved_meanwhile = {"c1"}
        async with rust_core("run", server.url, "Rain?", "no: not there") as rust:
            lines = await rust.lines()
    assert ran(lines) == []
    assert server.asked_of("tool/claim") == []
    results = server.asked_of("tool/result")
    told = {(result["content"], result["status"], result.get("claim")) for result in results}
    assert told == {("not there", "denied", None)}
    assert lines[-1]["text"] == "c1 denied"
