"""What the README says and code can check: its settings table, its examples, its links."""

import ast
import asyncio
import json
import re
import sys
from base64 import b64decode
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import websockets
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from archer_ws.config import Settings
from archer_ws.config_sources import variables_of
from archer_ws.llm_gateway.types import ChatRequest
from archer_ws.sessions.tool_models import Claim, ToolResult
from tests.conftest import Archer
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.pictures import PNG
from tests.fakes.scripted_server import Exchange, Reply
from tests.fakes.sse_reader import read_events
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import OLLAMA
from tests.fakes.waiting_server import STARTED, calling, ending, resulting, saying, stepping, waiting_server

LIMIT_S = 60
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
AS_JSON = {"Content-Type": "application/json"}


def settings_table() -> str:
    """The table of settings as the README must have it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{variables_of(name, field)[-1]}` | {shown_default(field)} | {field.description} |")
    return "\n".join(rows)


def shown_default(field: FieldInfo) -> str:
    match field.default:
        case None | "" | [] | SecretStr():
            return ""
        case bool(flag):
            return f"`{str(flag).lower()}`"
        case list(items):
            return " ".join(f"`{item}`" for item in items)
        case dict(pairs):
            shown = ",".join(f"{key}={value}" for key, value in pairs.items())
            return f"`{shown}`" if shown else ""
        case float(number):
            return f"`{number:g}`"
        case value:
            return f"`{value}`"


def blocks(language: str) -> list[str]:
    """The fenced blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_settings_table_is_the_settings() -> None:
    table = settings_table()
    assert table in README, f"put this table into README.md:\n{table}"


def test_python_examples_are_python() -> None:
    examples = blocks("python")
    assert examples
    for example in examples:
        ast.parse(example)


async def test_the_python_example_of_tools_runs_the_call_while_the_stream_waits() -> None:
    (example,) = (block for block in blocks("python") if "tools=" in block)
    async with waiting_server([STARTED]) as server:
        code = example.replace("http://127.0.0.1:8000", server.url)
        ran = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        request = await server.hears("chat/send")
        await server.say(calling("c1", "get_weather", '{"city": "Oslo"}'))
        result = await server.hears("tool/result")
        await server.say(resulting("c1", result["content"]), stepping(), saying("Take one."), ending(steps=2))
        printed, _ = await asyncio.wait_for(ran.communicate(), LIMIT_S)
    assert (ran.returncode, printed.decode()) == (0, "Take one.")
    assert ChatRequest.model_validate(request).waits_for_results
    assert (result["content"], result["status"]) == ("4 °C and rain in Oslo", "ok")


async def test_the_shell_example_of_files_asks_about_the_file_that_it_uploads(archer: Archer) -> None:
    archer.answer(ollama_stream("Blue."))
    (example,) = (block for block in blocks("sh") if "--data-binary" in block)
    (said, media_type), (request,) = (
        re.findall(r"echo \"(.*)\" \| curl \S+/files -H 'Content-Type: (\S+)' --data-binary @-", example)[0],
        re.findall(r"-d '(\{.*\})'", example, re.DOTALL),
    )
    sent = await archer.http.post("/api/v1/files", content=f"{said}\n", headers={"Content-Type": media_type})
    assert sent.json()["file_id"] in request
    answered = await archer.http.post(
        "/api/v1/chat/completions", content=request, headers={"Content-Type": "application/json"}
    )
    assert (answered.status_code, answered.json()["content"]) == (200, "Blue.")
    assert said in archer.ollama.exchanges[-1].json()["messages"][0]["content"]


async def test_the_python_example_of_files_uploads_and_names_them(archer: Archer, tmp_path: Path) -> None:
    (example,) = (block for block in blocks("python") if "images=" in block)
    (tmp_path / "photo.png").write_bytes(b64decode(PNG))
    (tmp_path / "notes.txt").write_text("The pump is blue.", "utf-8")
    archer.answer(ollama_stream("A pump."))
    code = f"""
import asyncio
from archer_ws.client import connect

async def main():
    async with connect("http://{archer.address}") as archer:
        {example.strip()}
        print("".join([text async for text in stream]))

asyncio.run(main())
"""
    ran = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(ran.communicate(), LIMIT_S)
    assert (ran.returncode, printed.decode()) == (0, "A pump.\n")


def test_requests_in_shell_examples_are_valid() -> None:
    posts = re.findall(r"curl (?:-N )?(\S+) .*?-d '(\{.*?\})'", "\n".join(blocks("sh")), re.DOTALL)
    assert posts
    for url, body in posts:
        bodies: dict[str, type[BaseModel]] = {"claim": Claim, "result": ToolResult}
        bodies.get(url.rpartition("/")[2], ChatRequest).model_validate(json.loads(body))


async def test_the_shell_examples_of_a_stream_that_waits_answer_its_call(archer: Archer) -> None:
    archer.answer(asking_for_the_weather)
    (asking,) = (block for block in blocks("sh") if '"on_tool_call": "wait"' in block)
    (answering,) = (block for block in blocks("sh") if "$call/" in block)
    path = re.findall(r"^call=http://127.0.0.1:8000(\S+)/k3Zq9TxB1$", answering, re.MULTILINE)[0]
    said = re.findall(r"^curl \$call(/\S+) .* -d '(.*)'$", answering, re.MULTILINE)
    (request,) = re.findall(r"-d '(\{.*\})'", asking, re.DOTALL)
    names, outcomes = [], []
    url = f"http://{archer.address}/api/v1/chat/completions/stream"
    async with (
        asyncio.timeout(LIMIT_S),
        httpx.AsyncClient() as client,
        client.stream("POST", url, content=request, headers=AS_JSON) as events,
    ):
        async for event in read_events(events):
            names.append(event.event)
            if event.event == "tool_call":
                for last, body in said:
                    call = f"{path}/{event.json['call_id']}{last}"
                    answer = await archer.http.post(call, content=body, headers=AS_JSON)
                    outcomes.append(answer.json()["outcome"])
    assert outcomes == ["claimed", "accepted"]
    assert [name for name in names if name is not None] == [
        "started",
        "tool_call",
        "tool_update",
        "tool_result",
        "step",
        "ended",
    ]


async def test_the_frames_of_a_stream_that_waits_are_what_comes(archer: Archer) -> None:
    archer.answer(asking_for_the_weather)
    (block,) = (
        frames for frames in re.findall(r"^```\n(→.*?)^```$", README, re.DOTALL | re.MULTILINE) if "wait" in frames
    )
    call_id = "k3Zq9TxB1"
    async with (
        asyncio.timeout(LIMIT_S),
        websockets.connect(f"ws://{archer.address}/api/v1/ws", proxy=None) as socket,
    ):
        for line in block.splitlines():
            direction, frame = line[0], line[2:].replace("k3Zq9TxB1", call_id)
            if direction == "→":
                await socket.send(frame)
                continue
            shown = json.loads(frame.replace(",…", ""))
            while True:
                came = json.loads(await socket.recv())
                if came.get("method", came.get("id")) == shown.get("method", shown.get("id")):
                    break
            if shown.get("method") == "stream/tool_call":
                call_id = came["params"]["call_id"]
                shown["params"] |= {"call_id": call_id, "deadline_at": came["params"]["deadline_at"]}
                assert datetime.fromisoformat(came["params"]["deadline_at"]).utcoffset() == timedelta(0)
                assert came["params"]["deadline_at"].endswith("Z")
            told = came.get("params", came.get("result"))
            assert told == (told | shown.get("params", shown.get("result")))


def asking_for_the_weather(exchange: Exchange) -> Reply:
    """Ollama, whose model calls once and then answers."""
    if any(message["role"] == "tool" for message in exchange.json()["messages"]):
        return ollama_stream("Take one along.")
    return Reply(OLLAMA.answer(MadeCall("get_weather", '{"city": "Oslo"}')), content_type="application/x-ndjson")


def test_relative_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
