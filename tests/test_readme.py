"""What the README and the pages beside the code say: examples run, tables agree with the code, links lead somewhere.

Examples that need a shell, Node, Rust or a browser run in tests/interop/test_readme.py and test_packages.py.
"""

import ast
import asyncio
import json
import re
import shlex
import sys
from base64 import b64decode
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import websockets
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from archer_ws.config import Settings
from archer_ws.config_sources import variables_of
from archer_ws.llm_gateway.types import ChatRequest
from archer_ws.options import parser
from archer_ws.sessions.models import SessionCreate
from archer_ws.sessions.tool_models import Claim, ToolResult
from tests.conftest import Archer
from tests.documents import ROOT, anchors, blocks, links, page, prose, shown
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.pictures import PNG
from tests.fakes.scripted_server import Exchange, Reply, forever
from tests.fakes.sse_reader import read_events
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import OLLAMA
from tests.fakes.waiting_server import STARTED, calling, ending, resulting, saying, stepping, waiting_server

LIMIT_S = 60
CONFIGURATION, HTTP = "archer_ws/CONFIGURATION.md", "archer_ws/api/README.md"
SESSIONS, FILES = "archer_ws/sessions/README.md", "archer_ws/files/README.md"
#: All of the repository's, but for what tests play a model's text with.
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("", ".github", "archer_ws", "schemas", "tests")
    for path in ((ROOT / folder).rglob("*.md") if folder else ROOT.glob("*.md"))
    if not {"node_modules", ".venv", "target", "hostile", "build"} & set(path.parts)
)
AS_JSON = {"Content-Type": "application/json"}


def settings_table() -> str:
    """The table of settings as archer_ws/CONFIGURATION.md must have it."""
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


def test_the_settings_table_is_the_settings() -> None:
    table = settings_table()
    assert table in page(CONFIGURATION), f"put this table into {CONFIGURATION}:\n{table}"


def test_the_readme_is_short() -> None:
    assert len(page("README.md").splitlines()) < 250


def test_every_block_of_the_readme_is_run_by_a_test() -> None:
    fragments = {
        str(call.args[0].value)
        for path in (ROOT / "tests").rglob("test_*.py")
        if not {".venv", "node_modules"} & set(path.parts)
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "shown"
        if len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }
    script = page(".ci/run")
    for block in blocks("README.md"):
        if block.mark is not None:
            assert f'readme_line "{block.mark}"' in script, block.mark
        else:
            assert any(fragment in block.text for fragment in fragments), (
                f"no test takes this by `shown`:\n{block.text}"
            )


@pytest.mark.parametrize("path", PAGES)
def test_python_examples_are_python(path: str) -> None:
    for block in blocks(path):
        if block.language == "python":
            ast.parse(block.text)


@pytest.mark.parametrize("path", PAGES)
def test_commands_of_archer_ws_within_a_text_or_block_have_options_that_exist(path: str) -> None:
    in_blocks = [
        line.partition("archer-ws ")[2].partition(" # ")[0].partition(" |")[0]
        for block in blocks(path)
        if block.language == "sh" and block.mark is None
        for line in block.text.splitlines()
        if re.match(r"(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?archer-ws ", line)
    ]
    in_text = re.findall(
        r"`(?:[A-Z_]+=\S+ )?archer-ws ((?:serve|chat|sessions|doctor|conformance|schema)[^`]*)`", prose(path)
    )
    for command in in_blocks + in_text:
        words = shlex.split(command)
        if len(words) == 1 or any("…" in word for word in words):  # a command's name, or not all of it
            continue
        status = parsed(words)
        assert status == 0, f"{path}: archer-ws {command}"


def parsed(words: list[str]) -> object:
    """The exit status of the command line's parser: 0 where it accepts the words."""
    nothing = dict.fromkeys(("serve", "chat", "sessions", "doctor", "conformance", "schema"), lambda _: 0)
    try:
        parser(nothing).parse_args(words)
    except SystemExit as ended:
        return ended.code
    return 0


async def test_the_python_example_prints_the_completion(archer: Archer, tmp_path: Path) -> None:
    archer.answer(ollama_stream("Because ", "it is."))
    assert (
        await printed_by(shown("any number may run at once\n            print"), archer.address, tmp_path)
        == "Because it is."
    )


async def test_the_python_example_of_the_clients_page_cancels(archer: Archer, tmp_path: Path) -> None:
    archer.answer(ollama_stream("Air ", "scatters", forever()))
    example = shown("await stream.cancel()", "archer_ws/client/README.md")
    assert await printed_by(example, archer.address, tmp_path) == "Air scatters"


async def test_the_python_example_of_http_prints_the_completion(archer: Archer, tmp_path: Path) -> None:
    text = "Because\u2028it\x85is\u2029ä."
    archer.answer(ollama_stream(text))
    example = shown("urlopen", "archer_ws/api/README.md")
    assert await printed_by(example, archer.address, tmp_path) == text


async def printed_by(program: str, address: str, directory: Path) -> str:
    """What an example in Python prints, which asks the server at `address`."""
    code = program.replace("127.0.0.1:8000", address)
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "utf8", "-c", code, cwd=directory, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(ran.communicate(), LIMIT_S)
    assert ran.returncode == 0
    return printed.decode()


@pytest.mark.parametrize("path", ["README.md", "archer_ws/client/README.md"])
async def test_the_python_example_of_tools_runs_the_call_while_the_stream_waits(path: str) -> None:
    example = shown("tools=[get_weather]") if path == "README.md" else shown("tools=[get_weather]", path)
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
    example = shown("--data-binary", FILES)
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
    example = shown("images=", FILES).strip()
    (in_the_readme,) = re.findall(r"`(archer\.chat\(.*images=.*\))`", page("README.md"))
    assert example == f"stream = {in_the_readme}"
    (tmp_path / "photo.png").write_bytes(b64decode(PNG))
    (tmp_path / "notes.txt").write_text("The pump is blue.", "utf-8")
    archer.answer(ollama_stream("A pump."))
    code = f"""
import asyncio
from archer_ws.client import connect

async def main():
    async with connect("http://127.0.0.1:8000") as archer:
        {example}
        print("".join([text async for text in stream]))

asyncio.run(main())
"""
    assert await printed_by(code, archer.address, tmp_path) == "A pump.\n"


@pytest.mark.parametrize("path", ["README.md", HTTP, SESSIONS, FILES])
def test_requests_in_shell_examples_are_valid(path: str) -> None:
    shell = "\n".join(block.text for block in blocks(path) if block.language == "sh")
    posts = re.findall(r"curl (?:-N )?(\S+) .*?-d '(\{.*?\})'", shell, re.DOTALL)
    assert posts
    for url, body in posts:
        bodies: dict[str, type[BaseModel]] = {"claim": Claim, "result": ToolResult, "sessions": SessionCreate}
        bodies.get(url.rpartition("/")[2], ChatRequest).model_validate(json.loads(body))


async def test_the_shell_examples_of_a_stream_that_waits_answer_its_call(archer: Archer) -> None:
    archer.answer(asking_for_the_weather)
    asking, answering = shown("curl -N", SESSIONS), shown("$call/", SESSIONS)
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
    block = shown("oslo-2", SESSIONS)
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
            expected = json.loads(frame.replace(",…", ""))
            while True:
                came = json.loads(await socket.recv())
                if came.get("method", came.get("id")) == expected.get("method", expected.get("id")):
                    break
            if expected.get("method") == "stream/tool_call":
                call_id = came["params"]["call_id"]
                expected["params"] |= {"call_id": call_id, "deadline_at": came["params"]["deadline_at"]}
                assert datetime.fromisoformat(came["params"]["deadline_at"]).utcoffset() == timedelta(0)
                assert came["params"]["deadline_at"].endswith("Z")
            told = came.get("params", came.get("result"))
            assert told == (told | expected.get("params", expected.get("result")))


def asking_for_the_weather(exchange: Exchange) -> Reply:
    """Ollama, whose model calls once and then answers."""
    if any(message["role"] == "tool" for message in exchange.json()["messages"]):
        return ollama_stream("Take one along.")
    return Reply(OLLAMA.answer(MadeCall("get_weather", '{"city": "Oslo"}')), content_type="application/x-ndjson")


def test_what_the_readme_says_of_docker_is_in_the_compose_file() -> None:
    # There is no engine here: the file is read, not run. Its form is checked by `.ci/run lint`.
    assert shown("docker compose up").splitlines()[-1].startswith("docker compose up  ")
    compose = yaml.safe_load(page("docker-compose.yml"))
    engine = compose["services"]["ai-engine"]
    assert engine["build"] == "."
    assert (ROOT / "Dockerfile").is_file()
    assert engine["ports"] == ["${ARCHER_BIND:-127.0.0.1}:${ARCHER_PUBLISHED_PORT:-8000}:8000"]
    assert [entry["path"] for entry in engine["env_file"]] == [".env"]
    assert set(engine["environment"]) <= {
        name for key, field in Settings.model_fields.items() for name in variables_of(key, field)
    }
    assert engine["environment"]["ARCHER_PORT"] == "8000"
    volumes = dict(volume.split(":") for volume in engine["volumes"])
    text = page(CONFIGURATION)
    for name, place in volumes.items():
        assert name in compose["volumes"]
        assert f"volume `{name}`, at `{place}`" in text
    for service in re.findall(r"docker compose (?:stop|start|cp) ([\w-]+)", text):
        assert service in compose["services"]
    assert engine["environment"]["ARCHER_DATA_DIR"] == volumes_place(text)


def volumes_place(text: str) -> str:
    """The folder in the container that a backup copies."""
    (place,) = re.findall(r"docker compose cp ai-engine:(\S+) ", text)
    return str(place)


def test_the_line_for_windows_is_line_one_with_windows_paths() -> None:
    # There is no Windows here: the line is compared, not run.
    (line_one,) = (block.text for block in blocks("README.md") if block.mark == "line one")
    windows = line_one.replace("python3", "py -3").replace(" && ", "; ").replace(".venv/bin/", ".venv\\Scripts\\")
    assert shown("py -3", CONFIGURATION) == windows


def test_the_commands_of_figures_exist() -> None:
    text = prose("README.md") + prose("tests/benchmarks/README.md")
    modules = set(re.findall(r"`[^`]*python -m (tests\.[\w.]+)", text))
    assert "tests.benchmarks.speed" in modules
    for module in modules:
        assert find_spec(module) is not None, module
    for selected, path in re.findall(r"pytest --long -k (\w+) (\S+?)`", text):
        assert re.search(rf"def test_\w*{selected}", page(path)), (selected, path)


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_to_files_and_headings(path: str) -> None:
    for link in links(path):
        file, _, anchor = link.partition("#")
        target = ((ROOT / path).parent / file).resolve() if file else ROOT / path
        assert target.exists(), f"{path}: {link}"
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), f"{path}: {link}"


@pytest.mark.parametrize(
    "path", ["archer_ws/client/README.md", "archer_ws/console/README.md", "archer_ws/client/rust/README.md"]
)
def test_the_pages_of_packages_lead_nowhere_into_the_repository(path: str) -> None:
    # On PyPI, npm and crates.io there is no file beside them.
    assert not links(path)
