"""instructor in each of its modes for OpenAI's API, streamed, and asking again: see forms.py."""

from typing import Any

import instructor
from instructor import Mode
from openai import OpenAI

from tests.interop.python.forms import Ask, City, run


def asked(ask: Ask, mode: Mode) -> tuple[Any, dict[str, Any]]:
    client = OpenAI(base_url=ask.base_url, api_key=ask.api_key, max_retries=0)
    messages = [{"role": "user", "content": ask.question}]
    # One try, and one more where the answer does not fit.
    return instructor.from_openai(client, mode=mode), {"model": ask.model, "messages": messages, "max_retries": 2}


def waited(mode: Mode) -> Any:
    def flow(ask: Ask) -> Any:
        client, request = asked(ask, mode)
        return client.create(response_model=City, **request)

    return flow


def partial(mode: Mode) -> Any:
    def flow(ask: Ask) -> Any:
        client, request = asked(ask, mode)
        *_, last = client.create_partial(response_model=City, **request)
        return last.model_dump()

    return flow


def iterable(mode: Mode) -> Any:
    def flow(ask: Ask) -> Any:
        client, request = asked(ask, mode)
        (city,) = client.create_iterable(response_model=City, **request)
        return city

    return flow


MODES = {
    "tools": Mode.TOOLS,
    "strict tools": Mode.TOOLS_STRICT,
    "json": Mode.JSON,
    "json schema": Mode.JSON_SCHEMA,
    "markdown": Mode.MD_JSON,
}
FLOWS = {name: waited(mode) for name, mode in MODES.items()}
FLOWS |= {f"{name}, asked again": waited(mode) for name, mode in MODES.items()}
FLOWS |= {f"{name}, partial": partial(mode) for name, mode in MODES.items()}
FLOWS |= {f"{name}, iterable": iterable(mode) for name, mode in MODES.items()}
run(FLOWS)
