"""Our own server keeps to the protocol, and every check can see that."""

import httpx
import pytest

from archer_ws.client.errors import ClientError
from archer_ws.conformance.probe import probe
from archer_ws.conformance.registry import all_checks
from archer_ws.conformance.runner import CheckResult, run
from archer_ws.core.limits import Limits
from tests.test_conformance.conftest import TOKEN, StartServer, conform


async def test_our_server_passes_every_check_and_nothing_is_left_behind(start_server: StartServer) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with start_server(auth_token=TOKEN) as address:
        results = await conform(address, token=TOKEN)
        assert [result for result in results if result.state != "ok"] == []
        assert [result.check for result in results] == list(all_checks())
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", headers=headers, trust_env=False) as http:
            assert (await http.get("/sessions")).json()["items"] == []
            assert (await http.get("/streams", params={"active": True})).json()["items"] == []


async def test_without_a_token_the_checks_of_tokens_are_skipped(start_server: StartServer) -> None:
    names = ("credential_is_needed", "wrong_tokens_are_refused", "wrong_headers_are_closed")
    async with start_server() as address:
        results = await conform(address, *names, "initialize_is_optional")
    assert [(result.check.name, result.state) for result in results] == [
        ("initialize_is_optional", "ok"),
        *((name, "skipped") for name in names),
    ]


async def test_behind_a_provider_that_serves_two_at_a_time_nothing_fails(start_server: StartServer) -> None:
    names = (
        "streams_interleave",
        "many_cancels_at_once",
        "cuts_lose_nothing",
        "duplicates_join",
        "streams_are_limited",
    )
    async with start_server(provider_concurrency={"ollama": 2}) as address:
        results = await conform(address, *names)
    assert [result for result in results if result.state == "failed"] == []


async def test_results_that_nobody_reads_any_more_end_the_checks_as_any_output_does(start_server: StartServer) -> None:
    def tell(_: CheckResult) -> None:
        raise BrokenPipeError

    checks = [check for check in all_checks() if check.name in {"ping_is_answered", "subprotocol_is_echoed"}]
    async with start_server() as address:
        target = await probe(f"http://{address}", None, {}, timeout_s=10, quiet_s=1, needs_answers=False)
        with pytest.raises(BrokenPipeError):
            await run(target, checks, timeout_s=10, quiet_s=1, on_result=tell)


async def test_the_limits_are_those_that_the_server_tells(start_server: StartServer) -> None:
    async with (
        start_server(limits=Limits(max_streams=3, max_requests=2)) as address,
        start_server(limits=Limits(max_streams=4)) as generous,
    ):
        results = await conform(address, "streams_are_limited", "bursts_are_answered")
        assert [result.state for result in results] == ["ok", "ok"]
        # One tells of its limits, and the other, which has less, is asked for what was told.
        (result,) = await conform(generous, "streams_are_limited", through=f"ws://{address}/api/v1/ws")
    assert result.state == "failed"
    assert "too_many_streams" in (result.came or "")


async def test_an_answer_that_is_too_short_is_skipped_and_not_failed(start_server: StartServer) -> None:
    async with start_server(tokens_max=1) as address:
        results = await conform(address)
    assert [result for result in results if result.state == "failed"] == []
    skipped = {result.check.name: result.reason for result in results if result.state == "skipped"}
    assert "too short" in (skipped["cuts_lose_nothing"] or "")


async def test_a_provider_that_fails_is_told_before_anything_is_checked(start_server: StartServer) -> None:
    async with start_server(tokens_max=0) as address:
        with pytest.raises(ClientError, match=r"gives no answers: .*the model is on fire"):
            await conform(address)


async def test_without_a_provider_the_rest_can_be_checked(start_server: StartServer) -> None:
    names = [check.name for check in all_checks() if not check.needs_answers]
    async with start_server(tokens_max=0) as address:
        results = await conform(address, *names)
    assert len(results) > 20
    assert [result for result in results if result.state == "failed"] == []
