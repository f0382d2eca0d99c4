"""The header fields of a response that goes past the layers: those that the layers would add."""

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from archer_ws.api.http.direct import DIRECT
from archer_ws.api.http.hot_request import HotRequest

OURS = (b"x-request-id", b"req_1")


class Direct:
    """Takes every response, and keeps its fields."""

    fields: list[tuple[bytes, bytes]]

    def respond(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        self.fields = list(fields)
        return True


async def nothing(message: Message | None = None) -> Any:
    raise AssertionError(message)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], [(b"vary", b"Origin"), OURS]),
        ([(b"vary", b"Accept")], [(b"vary", b"Accept, Origin"), OURS]),
        ([(b"x-request-id", b"mine")], [(b"x-request-id", b"mine"), (b"vary", b"Origin")]),
        ([(b"X-Request-ID", b"mine")], [(b"X-Request-ID", b"mine"), (b"vary", b"Origin")]),
        ([(b"x-varying", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b")], None),
    ],
    ids=["neither", "its own Vary", "its own id", "in capitals", "a similar one, and one twice"],
)
async def test_a_response_varies_by_origin_and_has_one_request_id(
    given: list[tuple[bytes, bytes]], sent: list[tuple[bytes, bytes]] | None
) -> None:
    direct = Direct()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [],
        "state": {"request_id": "req_1"},
        "extensions": {DIRECT: lambda: direct},
    }
    response = Response()
    response.raw_headers = given
    assert HotRequest(scope, nothing, nothing).respond(response)
    assert direct.fields == (sent if sent is not None else [*given, (b"vary", b"Origin"), OURS])
