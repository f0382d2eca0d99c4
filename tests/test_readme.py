"""What the README says and code can check: its settings table, its examples, its links."""

import ast
import asyncio
import json
import re
import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from archer_ws.config import Settings, variables_of
from archer_ws.llm_gateway.types import ChatRequest
from tests.fakes.calling_log import UMBRELLA, UMBRELLA_LOG, WEATHER_LOG
from tests.fakes.newer_server import newer_server

LIMIT_S = 60
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


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


async def test_the_python_example_of_tools_runs_the_call_and_sends_its_result() -> None:
    (example,) = (block for block in blocks("python") if "tools=" in block)
    async with newer_server(log=WEATHER_LOG, later_log=UMBRELLA_LOG) as server:
        code = example.replace("http://127.0.0.1:8000", server.url)
        ran = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        printed, _ = await asyncio.wait_for(ran.communicate(), LIMIT_S)
    assert (ran.returncode, printed.decode()) == (0, UMBRELLA)
    assert [message["role"] for message in server.request["messages"]] == ["user", "assistant", "tool"]
    assert server.request["messages"][-1] == {"role": "tool", "call_id": "c1", "content": "4 °C and rain in Oslo"}


def test_requests_in_shell_examples_are_valid() -> None:
    bodies = re.findall(r"-d '(\{.*?\})'", "\n".join(blocks("sh")), re.DOTALL)
    assert bodies
    for body in bodies:
        ChatRequest.model_validate(json.loads(body))


def test_relative_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
