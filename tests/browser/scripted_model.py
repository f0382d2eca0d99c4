"""What the console's tests chat about: a model whose answers follow from the question."""

import asyncio

from tests.fakes.ollama_api import ollama_error, ollama_line, ollama_stream
from tests.fakes.scripted_server import Exchange, Reply, Wait, forever

PIECES = [f"word{number} " for number in range(40)]
HALF, TEXT = "".join(PIECES[:20]).strip(), "".join(PIECES).strip()


class ScriptedModel:
    """`hold…`: half of the text, and the rest when `go` is set; `never…`: half of it and no more; `think`: reasoning
    first; `fail`: an error; `say …`: what follows; others: all of the text.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        question: str = exchange.json()["messages"][-1]["content"]
        match question.split(" ", 1):
            case ["hold", *_]:
                return ollama_stream(*PIECES[:20], Wait(self.go), *PIECES[20:])
            case ["never", *_]:
                return ollama_stream(*PIECES[:20], forever())
            case ["think", *_]:
                return ollama_stream(ollama_line(thinking="Let me see. "), ollama_line(thinking="Yes."), "It is so.")
            case ["fail", *_]:
                return ollama_error("out of memory")
            case ["say", said]:
                return ollama_stream(*(said[start : start + 7] for start in range(0, len(said), 7)))
        return ollama_stream(*PIECES)
