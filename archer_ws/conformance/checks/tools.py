"""Parts, tools and formats as they are asked for: what is not served or does not fit is refused with its path (sections
20, 21 and 25).

What a model calls can't be had for the asking; calls are watched wherever they come (checks/ordering.py).
"""

from typing import Any

from archer_ws.conformance.bench import Bench
from archer_ws.conformance.methods import CHAT_SEND
from archer_ws.conformance.outcome import expect
from archer_ws.conformance.registry import check

_TOOL = {"name": "get_weather", "parameters": {"type": "object"}}


@check(section="20")
async def pictures_are_told(bench: Bench) -> None:
    """An image part is unsupported, by its path."""
    picture = {"type": "image", "url": "data:image/png;base64,iVBORw0KGgo="}
    content = [{"type": "text", "text": "What is this?"}, picture]
    await _is_told(bench, "unsupported", "messages.0.content.1", messages=[{"role": "user", "content": content}])


@check(section="21")
async def waiting_is_told(bench: Bench) -> None:
    """on_tool_call wait is unsupported."""
    await _is_told(bench, "unsupported", "on_tool_call", tools=[_TOOL], on_tool_call="wait")


@check(section="25")
async def formats_have_a_schema(bench: Bench) -> None:
    """A response_format json_schema without a schema is refused."""
    await _is_told(bench, "invalid_params", "response_format.json_schema", response_format={"type": "json_schema"})


@check(section="20")
async def nested_tools_are_told(bench: Bench) -> None:
    """A tool in chat completions' nested form is refused."""
    await _is_told(bench, "invalid_params", "tools.0.function", tools=[{"type": "function", "function": _TOOL}])


@check(section="21")
async def choices_name_a_tool(bench: Bench) -> None:
    """A tool_choice that names no tool of the request is refused."""
    await _is_told(bench, "invalid_params", "tool_choice.name", tools=[_TOOL], tool_choice={"name": "get_time"})


@check(section="20")
async def tools_have_names_of_their_own(bench: Bench) -> None:
    """Two tools of one name are refused."""
    await _is_told(bench, "invalid_params", "tools.1.name", tools=[_TOOL, _TOOL])


@check(section="10")
async def results_need_an_open_call(bench: Bench) -> None:
    """A turn's result for a call that is not open is refused."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    result = {"role": "tool", "call_id": "conformance-none", "content": "4 °C"}
    await _is_told(bench, "invalid_params", "messages.0.call_id", session_id=session_id, messages=[result])


async def _is_told(bench: Bench, kind: str, path: str, **params: Any) -> None:
    peer = await bench.connect()
    info = await peer.refused(CHAT_SEND, kind, **bench.short(**params))
    paths = [each.path for each in info.errors or ()]
    expect(path in paths, f"errors to name {path}", paths)
    expect(bool(info.hint), "a hint", info.model_dump(exclude_none=True))
