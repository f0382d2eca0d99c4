"""Replies of OpenAI's Responses API for the scripted server: the events of an answer as OpenAI sends them.

    server.enqueue(reply(*text_answer(["Hel", "lo"])))

`Script` writes an answer item by item, and counts what the API counts: numbers of events, items and parts.
`adapter_for` makes an adapter that asks a server by this API.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from tests.fakes import openai_api
from tests.fakes.scripted_server import Reply, ScriptedServer, Step

MODEL = "gpt-5.4"
#: So much of an answer's text, or of a call's arguments, stands in an event, in characters.
PIECE_CHARS = 7


def event(kind: str, **fields: object) -> bytes:
    """One event, named as its type is."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def response(
    output: Sequence[dict[str, Any]] = (), *, status: str = "completed", usage: object = None, **fields: object
) -> dict[str, Any]:
    """A response object."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": MODEL,
        "output": [*output],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
        "store": False,
        **fields,
    }


def counts(prompt: int = 3, completion: int = 5, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """A usage object."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + completion,
    }


class Script:
    """The events of one answer, in the order in which OpenAI sends them."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.output: list[dict[str, Any]] = []
        started = response(status="in_progress")
        self.say("response.created", response=started)
        self.say("response.in_progress", response=started)

    def say(self, kind: str, **fields: object) -> None:
        """An event."""
        self.events.append(event(kind, sequence_number=len(self.events), **fields))

    def begin(self, **item: Any) -> dict[str, Any]:
        """An item begins; it is `output[-1]` from now on."""
        self.output.append({"id": f"item_{len(self.output)}", "status": "in_progress", **item})
        self.say("response.output_item.added", output_index=len(self.output) - 1, item=self.output[-1])
        return self.output[-1]

    def end(self, **more: Any) -> None:
        """The last item is complete."""
        item = self.output[-1]
        item.update(more, status="completed")
        self.say("response.output_item.done", output_index=len(self.output) - 1, item=item)

    def pieces(self, kind: str, text: str, *, size: int = PIECE_CHARS, **fields: object) -> None:
        """The deltas of a text, and the event that has the whole of it."""
        place = {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1, **fields}
        for start in range(0, len(text), size):
            self.say(f"response.{kind}.delta", **place, delta=text[start : start + size], obfuscation="x" * 9)
        whole = {"function_call_arguments": "arguments", "refusal": "refusal"}.get(kind, "text")
        named = {"name": self.output[-1]["name"]} if kind == "function_call_arguments" else {}
        self.say(f"response.{kind}.done", **place, **{whole: text}, **named)

    def message(self, text: str, **item: Any) -> None:
        """A message."""
        self.begin(type="message", role="assistant", content=[], **item)
        self._part({"type": "output_text", "text": text, "annotations": [], "logprobs": []}, "output_text", text)

    def refusal(self, text: str) -> None:
        """A message that declines."""
        self.begin(type="message", role="assistant", content=[])
        self._part({"type": "refusal", "refusal": text}, "refusal", text)

    def reasoning(self, *summaries: str, encrypted: str | None = "gAAAA+secret/=") -> None:
        """The model's reasoning: parts of its summary, and its encrypted form, which is whole at the end alone."""
        begun = {} if encrypted is None else {"encrypted_content": encrypted[:4]}
        self.begin(type="reasoning", summary=[], **begun)
        for number, text in enumerate(summaries):
            part = {"type": "summary_text", "text": text}
            place = {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1, "summary_index": number}
            self.say("response.reasoning_summary_part.added", **place, part={**part, "text": ""})
            self.pieces("reasoning_summary_text", text, summary_index=number)
            self.say("response.reasoning_summary_part.done", **place, part=part)
        more = {} if encrypted is None else {"encrypted_content": encrypted}
        self.end(summary=[{"type": "summary_text", "text": text} for text in summaries], **more)

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """A call of a function."""
        self.begin(type="function_call", call_id=call_id, name=name, arguments="")
        self.pieces("function_call_arguments", arguments)
        self.end(arguments=arguments)

    def complete(self, **counted: int) -> list[bytes]:
        """All events, with the one that ends the answer."""
        self.say("response.completed", response=response(self.output, usage=counts(**counted)))
        return self.events

    def incomplete(self, reason: object, **counted: int) -> list[bytes]:
        """The same of an answer that was cut."""
        ended = response(
            self.output, status="incomplete", usage=counts(**counted), incomplete_details={"reason": reason}
        )
        self.say("response.incomplete", response=ended)
        return self.events

    def failed(self, code: str, message: str = "it broke") -> list[bytes]:
        """The same of one that failed."""
        ended = response(self.output, status="failed", error={"code": code, "message": message})
        self.say("response.failed", response=ended)
        return self.events

    def _part(self, part: dict[str, Any], kind: str, text: str) -> None:
        place = {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1, "content_index": 0}
        self.say("response.content_part.added", **place, part={**part, kind.removeprefix("output_"): ""})
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        self.pieces(kind, text, content_index=0, **more)
        self.say("response.content_part.done", **place, part=part)
        self.end(content=[part])


def text_delta(text: str) -> bytes:
    """A piece of an answer's text, without what stands before it."""
    return event(
        "response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=text, logprobs=[]
    )


def text_answer(pieces: Iterable[str], **counted: int) -> list[bytes]:
    """A whole answer of text."""
    script = Script()
    script.message("".join(pieces))
    return script.complete(**counted)


def reply(*steps: Step, **more: Any) -> Reply:
    """A streamed answer; each step is sent by itself."""
    return Reply(steps, content_type="text/event-stream", **more)


def adapter_for(server: ScriptedServer, **settings: Any) -> AbstractAsyncContextManager[OpenAIAdapter]:
    """An adapter at the server's address that asks by this API, closed in the end."""
    return openai_api.adapter_for(server, **{"api": "responses", "default_model": MODEL, **settings})
