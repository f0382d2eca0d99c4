"""An Ollama whose model asks for the weather of each city that the question names, and says what it heard of them."""

from typing import Any

from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import Exchange, Reply
from tests.fakes.tool_dialects import MadeCall
from tests.fakes.tools_ollama import answer, history


def asking_for_weather(exchange: Exchange) -> Reply:
    """`Oslo Lima` has get_weather called with each; what it says of the results has them in order."""
    body: dict[str, Any] = exchange.json()
    results = [said.what for said in history(body) if said.kind == "result"]
    if results:
        return ollama_stream("I heard: ", "; ".join(results))
    cities = body["messages"][-1]["content"].split()
    calls = [MadeCall("get_weather", f'{{"city": "{city}"}}') for city in cities]
    return Reply(answer(*calls, text="Let me look."), content_type="application/x-ndjson")
