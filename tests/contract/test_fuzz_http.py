"""Every route fuzzed from the OpenAPI document: what it says is what the server does, whatever it is sent.

With `--long` each route gets many times the requests.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, CheckContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from archer_ws.main import openapi_document
from tests.contract.fuzzed_server import FuzzedServer, defects, fuzzed_server

#: Requests that Hypothesis makes up for each route, beside those that cover the schema's limits one by one.
CASES = 500 if settings.get_current_profile_name() == "long" else 30
REQUEST_LIMIT_S = 20
SEED = 20_261_101

api = schemathesis.openapi.from_dict(openapi_document(), config=SchemathesisConfig.from_dict({"seed": SEED}))


@schemathesis.serializer("application/jsonl", "application/pdf", "image/png", "image/jpeg", "image/gif", "image/webp")
def as_bytes(_ctx: Any, value: Any) -> bytes:
    """Bodies that are no JSON: whatever bytes were made up, or what a document of the wrong kind is as text."""
    if isinstance(value, bytes):
        return value
    made = getattr(value, "data", value)
    return made if isinstance(made, bytes) else str(made).encode("utf-8", "replace")


def no_defect(ctx: CheckContext, response: Response, case: "Case[Any]") -> None:
    """Only what stands behind the server may fail: a provider that has no key, say."""
    assert response.status_code != 500, response.text


#: Not among them: negative_data_rejection (numbers and booleans are read leniently, "1" as 1), and
#: allow_header_conformance (Allow names HEAD, which the document does not).
CHECKS = [
    no_defect,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]


@pytest.fixture(scope="module")
def server() -> Iterator[FuzzedServer]:
    with fuzzed_server() as running:
        with httpx.Client(base_url=running.url, trust_env=False) as http:
            # What the document's examples speak of is there.
            http.post("/api/v1/sessions", json={"session_id": "sky"}).raise_for_status()
            hello = {"messages": [{"role": "user", "content": "hello"}], "stream_id": "sky-1", "session_id": "sky"}
            http.post("/api/v1/chat/completions", json=hello).raise_for_status()
        yield running


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Keeps its connection for the next request, and asks no file of the user for passwords before each."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.timeout(600)
@api.parametrize()
@settings(max_examples=CASES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_document_tells_the_truth(
    case: "Case[Any]", server: FuzzedServer, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    case.call_and_validate(base_url=server.url, session=session, checks=CHECKS, timeout=REQUEST_LIMIT_S)
    assert not defects(caplog.records)
