"""LangChain's `with_structured_output`, by each of its methods, waited for and streamed: see forms.py."""

from typing import Any

from langchain_openai import ChatOpenAI

from tests.interop.python.forms import Ask, City, run


def structured(ask: Ask, method: str) -> Any:
    model = ChatOpenAI(base_url=ask.base_url, api_key=ask.api_key, model=ask.model, max_retries=0)
    return model.with_structured_output(City, method=method)


def invoked(method: str) -> Any:
    return lambda ask: structured(ask, method).invoke(ask.question)


def streamed(method: str) -> Any:
    return lambda ask: list(structured(ask, method).stream(ask.question))[-1]


METHODS = ("json_schema", "json_mode", "function_calling")
run({method: invoked(method) for method in METHODS} | {f"{method}, streamed": streamed(method) for method in METHODS})
