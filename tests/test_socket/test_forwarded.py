"""What a trusted proxy says about its client counts; whoever sends no such fields passes by."""

import asyncio
import json

import pytest

from tests.fakes.raw_client import raw_client, request
from tests.test_socket.conftest import StartSocketed

IN_OPENAI_S_FORM = json.dumps({"messages": [{"role": "user", "content": "hello"}], "n": 1}).encode()


@pytest.mark.parametrize(("fields", "scheme"), [([], "http"), (["X-Forwarded-Proto: https"], "https")])
async def test_the_addresses_in_a_response_have_the_scheme_that_a_proxy_reports(
    start_socketed: StartSocketed, fields: list[str], scheme: str
) -> None:
    async with asyncio.timeout(30), start_socketed() as archer, raw_client(archer.address) as client:
        await client.send(request("POST", "/api/v1/chat/completions", *fields, body=IN_OPENAI_S_FORM))
        answer = await client.answer()
    assert answer.status == 404
    assert f" {scheme}://" in answer.body.decode()
