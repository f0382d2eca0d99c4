"""What the console's tests chat about: a model whose answers follow from the question."""

import asyncio
from collections.abc import Iterator

from tests.fakes.ollama_api import ollama_error, ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait, forever
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer, history

PIECES = [f"word{number} " for number in range(40)]
HALF, TEXT = "".join(PIECES[:20]).strip(), "".join(PIECES).strip()
#: Between the lines of `write`: a quick model's pace.
LINE_S = 0.02


class ScriptedModel:
    """By the question's first word. `hold`: half of the text, and the rest when `go` is set; `never`: half of it and no
    more; `think`: reasoning first; `fail`: an error; `say`: what follows; `roll` and `time`: calls of the page's tools,
    and then what came of them; `long`: what stands there; `write`: lines without an end; others: all of the text.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.long = ""

    def __call__(self, exchange: Exchange) -> Reply:
        body = exchange.json()
        results = [said.what for said in history(body) if said.kind == "result"]
        question: str = body["messages"][-1]["content"]
        if results and body["messages"][-1]["role"] == "tool":
            return ollama_stream("It says: ", results[-1])
        first, _, rest = question.partition(" ")
        answers = {
            "hold": lambda: ollama_stream(*PIECES[:20], Wait(self.go), *PIECES[20:]),
            "never": lambda: ollama_stream(*PIECES[:20], forever()),
            "think": lambda: ollama_stream(*map(thinking, ("Let me see. ", "Yes.")), "It is so."),
            "fail": lambda: ollama_error("out of memory"),
            "roll": lambda: calling("Let me roll. ", MadeCall("roll_dice", f'{{"count": {rest}}}')),
            "time": lambda: calling("", MadeCall("current_time", "{}")),
            "say": lambda: ollama_stream(*cut(rest, 7)),
            "long": lambda: ollama_stream(*cut(self.long, 24)),
            "write": lambda: Reply(lines(), content_type="application/x-ndjson"),
        }
        return answers.get(first, lambda: ollama_stream(*PIECES))()


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def lines() -> Iterator[Step]:
    while True:
        yield ollama_line("one line\n\n")
        written = asyncio.Event()
        asyncio.get_running_loop().call_later(LINE_S, written.set)
        yield Wait(written)


def thinking(text: str) -> bytes:
    return ollama_line(thinking=text)


def calling(text: str, call: MadeCall) -> Reply:
    return Reply(answer(call, text=text), content_type="application/x-ndjson")
