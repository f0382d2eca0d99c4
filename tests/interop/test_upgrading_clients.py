"""Real clients that offer HTTP/2 to http:// URLs, or that ask as old ones do: OpenJDK's HttpClient, curl and wget."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.fakes.ollama_api import ollama_stream
from tests.processes import Server, server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

JAVA_MAIN = Path(__file__).parent / "java" / "Main.java"
LIMIT_S = 90
CHAT = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
AS_JSON = ("-H", "Content-Type: application/json")


async def run(program: str, *arguments: str, status: int = 0) -> str:
    """What a program prints, once it has ended with that status."""
    found = shutil.which(program)
    assert found is not None, f"these tests need {program}"
    process = await asyncio.create_subprocess_exec(found, *arguments, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(LIMIT_S):
            printed, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == status, complained.decode()
    return printed.decode()


async def curl(running: Server, path: str, *options: str) -> str:
    """What curl prints of an answer."""
    return await run("curl", "--silent", "--show-error", "--no-buffer", *options, f"{running.url}{path}")


async def test_a_java_client_s_bodies_arrive_and_its_streams_are_streamed(tmp_path: Path) -> None:
    async with server(ollama_stream("Hel", "lo"), cwd=tmp_path) as running:
        printed = await run("java", str(JAVA_MAIN), running.url)
        told = dict(line.split("\t", 1) for line in printed.splitlines())
        assert {name: json.loads(told[name])["title"] for name in ("whole", "chunked", "again")} == {
            "whole": "whole", "chunked": "in chunks", "again": "again",
        }  # fmt: skip
        assert int(told["large"]) > 0
        assert json.loads(told["answer"])["content"] == "Hello"
        assert json.loads(told["openai"])["choices"][0]["message"]["content"] == "Hello"
        assert told["events"].startswith("HTTP_1_1 event: started")
        assert told["events"].endswith("data: [DONE]")
        assert '"content":"Hel' in told["events"]
        assert told["head"] == "200 []"
        assert json.loads(told["socket"])["result"] == {}
        (asked, *_) = [(await running.next_chat()).json()["messages"][-1]["content"]]
        assert asked == "hello"


@pytest.mark.parametrize("in_chunks", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["a length", "chunks"])
async def test_curl_with_http_2_keeps_its_body(tmp_path: Path, in_chunks: list[str]) -> None:
    async with server(ollama_stream("Hello"), cwd=tmp_path) as running:
        posting = ("--http2", *AS_JSON, *in_chunks)
        made = await curl(running, "/api/v1/sessions", *posting, "-d", '{"title": "kept"}')
        assert json.loads(made)["title"] == "kept"
        events = await curl(running, "/api/v1/chat/completions/stream", *posting, "-d", CHAT)
        assert events.endswith("data: [DONE]\n\n")


async def test_curl_speaking_http_1_0_sees_no_sizes_of_chunks(tmp_path: Path) -> None:
    async with server(ollama_stream("Hello"), cwd=tmp_path) as running:
        told = await curl(running, "/api/v1/chat/completions/stream", "--http1.0", "--include", *AS_JSON, "-d", CHAT)
        head, _, body = told.partition("\r\n\r\n")
        assert "connection: close" in head.lower()
        assert "transfer-encoding" not in head.lower()
        assert body.startswith("event: started\n")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/docs", "/v1/models"])
async def test_health_checks_of_containers_pass(tmp_path: Path, path: str) -> None:
    async with server(ollama_stream("Hello"), cwd=tmp_path) as running:
        assert (await curl(running, path, "--head", "--fail")).startswith("HTTP/1.1 200")
        await run("wget", "--quiet", "--spider", f"{running.url}{path}")
