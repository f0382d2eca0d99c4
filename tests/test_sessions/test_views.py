"""The JSON of a whole completion, which is made without its model."""

import pytest

from archer_ws.examples.chat import CHAT_RESPONSES, TOKEN_USAGES
from archer_ws.llm_gateway.types import ChatResponse
from archer_ws.sessions.views import response_json


@pytest.mark.parametrize(
    "example", [*CHAT_RESPONSES, *({**CHAT_RESPONSES[0], "usage": usage} for usage in TOKEN_USAGES)]
)
def test_it_is_byte_for_byte_what_the_model_serializes(example: dict[str, object]) -> None:
    whole = ChatResponse.model_validate(example)
    fields = {name: getattr(whole, name) for name in ChatResponse.model_fields}
    assert response_json(fields) == whole.model_dump_json().encode()
