"""Parts, tools and formats of requests: what is unsupported or does not fit is refused with its path (sections 20, 21
and 25).

A check cannot make a model call a tool; calls are checked wherever they occur (checks/ordering.py).
"""

from typing import Any

from archer_ws.conformance.bench import Bench
from archer_ws.conformance.failing import expect
from archer_ws.conformance.methods import CHAT_SEND, SESSION_GET
from archer_ws.conformance.registry import check

_WHAT = {"type": "text", "text": "What is this?"}
#: The smallest PNG: one pixel.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJgg"
    "g=="
)
_TOOL = {"name": "get_weather", "parameters": {"type": "object"}}


@check(section="20")
async def pictures_are_kept_or_told(bench: Bench) -> None:
    """A picture is stored and given back, or told as unsupported."""
    peer = await bench.connect()
    session_id = (await bench.session(peer)).session_id
    question = {"role": "user", "content": [_WHAT, {"type": "image", "url": _PIXEL}]}
    end = await peer.ended(await peer.chat(bench.short(session_id=session_id, messages=[question])))
    if end.error is not None and end.error.kind == "unsupported":
        path = end.error.errors[0].path if end.error.errors else None
        expect(path == "messages.0.content.1", "the path messages.0.content.1", path)
    stored = (await peer.call(SESSION_GET, session_id=session_id)).messages[0]
    expect(stored.content == _WHAT["text"], f"the text {_WHAT['text']!r}", stored.content)
    came = [part.type for part in stored.parts or ()]
    expect(came == ["text", "image"], "its parts, text and image", came)


@check(section="20")
async def lying_pictures_are_told(bench: Bench) -> None:
    """A picture that is none is unsupported, by its path."""
    await _is_told_of_part(bench, "unsupported", {"type": "image", "url": "data:image/png;base64,aGVsbG8="}, "url")


@check(section="20")
async def fetchable_pictures_are_told(bench: Bench) -> None:
    """A picture at an http URL is refused, by its path."""
    await _is_told_of_part(bench, "invalid_params", {"type": "image", "url": "http://127.0.0.1/a.png"}, "url")


@check(section="20")
async def unknown_parts_are_told(bench: Bench) -> None:
    """A part of an unknown type is unsupported, by its path."""
    await _is_told_of_part(bench, "unsupported", {"type": "hologram"}, "type")


@check(section="21")
async def steps_need_waiting(bench: Bench) -> None:
    """max_steps without on_tool_call wait is refused."""
    await _is_told(bench, "invalid_params", "max_steps", tools=[_TOOL], max_steps=3)


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


async def _is_told_of_part(bench: Bench, kind: str, part: dict[str, str], field: str) -> None:
    """`part` is refused, naming its field."""
    messages = [{"role": "user", "content": [_WHAT, part]}]
    await _is_told(bench, kind, f"messages.0.content.1.{field}", messages=messages)


async def _is_told(bench: Bench, kind: str, path: str, **params: Any) -> None:
    peer = await bench.connect()
    info = await peer.refused(CHAT_SEND, kind, **bench.short(**params))
    paths = [each.path for each in info.errors or ()]
    expect(path in paths, f"errors to name {path}", paths)
    expect(bool(info.hint), "a hint", info.model_dump(exclude_none=True))
