"""A provider whose model calls tools, in the words of each of the three: it asks for what the question names, and once
the results are there, says them again.

    what the user says   the model's calls                      its answer, when the results have come
    "weather"            get_weather {"city": "Oslo"}           "I heard: rain in Oslo"
    "both"               that, and {"city": "Lima"} beside it   "I heard: rain in Oslo; rain in Lima"
    "time"               now, without arguments                 "I heard: noon"

A request that its real counterpart would refuse, or misunderstand (a result that is not right behind its call, or names
none, out of order; a tool that was not offered), gets a 400 that says what was wrong.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes import anthropic_api, ollama_api, openai_api
from tests.fakes.scripted_server import Exchange, Reply, Step

#: The tools that must be offered.
NAMES = ["get_weather", "now"]
CALLS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "weather": [("get_weather", {"city": "Oslo"})],
    "both": [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Lima"})],
    "time": [("now", {})],
}


class Misunderstood(Exception):
    """The request is not one that the provider takes."""


@dataclass
class Heard:
    """What a request comes to: the tools, the question, the calls behind it and their results, by id where there are
    ids."""

    tools: list[str]
    question: str
    calls: list[tuple[str, str, dict[str, str]]]
    results: list[tuple[str, str]]

    def check(self) -> None:
        if sorted(self.tools) != NAMES:
            raise Misunderstood(f"offered are {self.tools}")
        if not self.results and not self.calls:
            return
        if [(name, arguments) for _, name, arguments in self.calls] != CALLS[self.question]:
            raise Misunderstood(f"these were not my calls: {self.calls}")
        if [call_id for call_id, _, _ in self.calls] != [call_id for call_id, _ in self.results]:
            raise Misunderstood(f"{self.results} are not the results of {self.calls}, in their order")

    @property
    def answer(self) -> str:
        return "I heard: " + "; ".join(text for _, text in self.results)


def playing_tool_loops(exchange: Exchange) -> Reply:
    """Answer a chat of any of the three APIs, streamed, and what is asked beside it."""
    path = exchange.path.partition("?")[0]
    voice = _VOICES.get(path)
    if voice is None:
        return _BESIDE.get(path) or Reply.of_json({"error": "no such route"}, status=404)
    try:
        heard = voice.hear(exchange.json())
        heard.check()
    except (Misunderstood, KeyError, TypeError, IndexError, ValueError) as error:
        return voice.refuse(f"{type(error).__name__}: {error}")
    return voice.say(heard)


def _hear_openai(body: dict[str, Any]) -> Heard:
    question, *rest = [message for message in body["messages"] if message["role"] != "system"]
    calls = [call for message in rest for call in message.get("tool_calls", ())]
    return Heard(
        [tool["function"]["name"] for tool in body["tools"]],
        question["content"],
        [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
        [(message["tool_call_id"], message["content"]) for message in rest if message["role"] == "tool"],
    )


def _say_openai(heard: Heard) -> Reply:
    if heard.results:
        return openai_api.text_stream([*heard.answer])
    pieces: list[Step] = []
    for index, (name, arguments) in enumerate(CALLS[heard.question]):
        # The first piece has all but the arguments; a call without any has none in the others either.
        text = json.dumps(arguments) if arguments else ""
        function = {"name": name, "arguments": ""}
        first = {"index": index, "id": f"call_{index}_abcdefghijklmnop", "type": "function", "function": function}
        pieces.append(openai_api.chunk({"tool_calls": [first]}))
        pieces += [
            openai_api.chunk({"tool_calls": [{"index": index, "function": {"arguments": letter}}]}) for letter in text
        ]
    opening = openai_api.chunk({"role": "assistant", "content": None})
    return openai_api.stream(opening, *pieces, *openai_api.ending("tool_calls"))


def _hear_anthropic(body: dict[str, Any]) -> Heard:
    question, *rest = body["messages"]
    blocks = [block for message in rest for block in message["content"] if isinstance(block, dict)]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    results = [block for block in blocks if block["type"] == "tool_result"]
    if rest and [message["role"] for message in rest] != ["assistant", "user"]:
        raise Misunderstood("results must be one user message right behind the calls")
    return Heard(
        [tool["name"] for tool in body["tools"]],
        _text_of(question["content"]),
        [(call["id"], call["name"], call["input"]) for call in calls],
        [(result["tool_use_id"], _text_of(result["content"])) for result in results],
    )


def _say_anthropic(heard: Heard) -> Reply:
    if heard.results:
        return anthropic_api.text_stream([*heard.answer])
    pieces: list[Step] = []
    for index, (name, arguments) in enumerate(CALLS[heard.question]):
        block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        pieces.append(anthropic_api.block_start(index, **block))
        text = json.dumps(arguments) if arguments else ""
        pieces += [
            anthropic_api.block_delta({"type": "input_json_delta", "partial_json": piece}, index)
            for piece in ["", *text]
        ]
        pieces.append(anthropic_api.block_stop(index))
    return anthropic_api.stream(anthropic_api.start(), *pieces, anthropic_api.finish("tool_use"), anthropic_api.STOP)


def _hear_ollama(body: dict[str, Any]) -> Heard:
    question, *rest = [message for message in body["messages"] if message["role"] != "system"]
    calls = [call["function"] for message in rest for call in message.get("tool_calls", ())]
    results = [message for message in rest if message["role"] == "tool"]
    # It pairs them by name and order.
    if [result["tool_name"] for result in results] != [call["name"] for call in calls]:
        raise Misunderstood(f"{results} are not the results of {calls}")
    return Heard(
        [tool["function"]["name"] for tool in body["tools"]],
        question["content"],
        [(str(place), call["name"], call["arguments"]) for place, call in enumerate(calls)],
        [(str(place), result["content"]) for place, result in enumerate(results)],
    )


def _say_ollama(heard: Heard) -> Reply:
    if heard.results:
        return ollama_api.ollama_stream(*heard.answer)
    lines = [
        {
            "model": "llama3.2",
            "created_at": ollama_api.CREATED_AT,
            "message": {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"index": 0, "name": name, "arguments": arguments}}],
            },
            "done": False,
        }
        for name, arguments in CALLS[heard.question]
    ]
    # Each call is whole, all have the index 0, and the end says `stop`.
    return ollama_api.ollama_stream(*(json.dumps(line).encode() + b"\n" for line in lines))


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


@dataclass(frozen=True)
class _Voice:
    """How a provider understands requests, says its calls and answers, and refuses."""

    hear: Callable[[dict[str, Any]], Heard]
    say: Callable[[Heard], Reply]
    refuse: Callable[[str], Reply]


_VOICES = {
    "/v1/chat/completions": _Voice(_hear_openai, _say_openai, lambda text: openai_api.error(400, text)),
    "/v1/messages": _Voice(
        _hear_anthropic, _say_anthropic, lambda text: anthropic_api.error(400, "invalid_request_error", text)
    ),
    "/api/chat": _Voice(_hear_ollama, _say_ollama, lambda text: ollama_api.ollama_error(text, 400)),
}
_BESIDE = {
    "/api/show": ollama_api.ollama_show(4096, capabilities=["completion", "tools"]),
    "/api/tags": ollama_api.ollama_tags("llama3.2:latest"),
    "/api/ps": ollama_api.ollama_ps(),
}
