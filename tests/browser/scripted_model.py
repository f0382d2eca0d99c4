"""What the console's tests chat about: a model whose answers follow from the question."""

import asyncio

from tests.fakes.ollama_api import ollama_error, ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Wait, forever
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer, history

PIECES = [f"word{number} " for number in range(40)]
HALF, TEXT = "".join(PIECES[:20]).strip(), "".join(PIECES).strip()


class ScriptedModel:
    """`hold…`: half of the text, and the rest when `go` is set; `never…`: half of it and no more; `think`: reasoning
    first; `fail`: an error; `say …`: what follows; `roll …` and `time`: calls of the page's tools, and then what came of
    them; others: all of the text.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        body = exchange.json()
        results = [said.what for said in history(body) if said.kind == "result"]
        question: str = body["messages"][-1]["content"]
        if results and body["messages"][-1]["role"] == "tool":
            return ollama_stream("It says: ", results[-1])
        match question.split(" ", 1):
            case ["hold", *_]:
                return ollama_stream(*PIECES[:20], Wait(self.go), *PIECES[20:])
            case ["never", *_]:
                return ollama_stream(*PIECES[:20], forever())
            case ["think", *_]:
                return ollama_stream(ollama_line(thinking="Let me see. "), ollama_line(thinking="Yes."), "It is so.")
            case ["fail", *_]:
                return ollama_error("out of memory")
            case ["roll", count]:
                return calling("Let me roll. ", MadeCall("roll_dice", f'{{"count": {count}}}'))
            case ["time", *_]:
                return calling("", MadeCall("current_time", "{}"))
            case ["say", said]:
                return ollama_stream(*(said[start : start + 7] for start in range(0, len(said), 7)))
        return ollama_stream(*PIECES)


def calling(text: str, call: MadeCall) -> Reply:
    return Reply(answer(call, text=text), content_type="application/x-ndjson")
