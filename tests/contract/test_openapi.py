"""The OpenAPI document: valid, whole, the same everywhere, and its examples true."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from openapi_spec_validator import validate

from archer_ws.api.openapi.error_responses import EXAMPLES
from archer_ws.core.exceptions import (
    AlreadyInitialized,
    MaxStepsExceeded,
    NotInitialized,
    ToolTimeout,
    TooManyStreams,
    UnsupportedVersion,
)
from archer_ws.main import create_app, openapi_document
from tests.conftest import MakeSettings
from tests.documents import page
from tests.fakes.strict_schemas import CODE_OF_KIND, strict

PAGES = [
    "README.md",
    "archer_ws/api/README.md",
    "archer_ws/sessions/README.md",
    "archer_ws/files/README.md",
    "archer_ws/console/README.md",
]
METHODS = ("get", "put", "post", "patch", "delete")
#: What only a socket is told.
OF_SOCKETS = {error.kind for error in (AlreadyInitialized, NotInitialized, TooManyStreams, UnsupportedVersion)}
OF_SOCKETS |= {"invalid_request", "method_not_found"}
#: What only an end tells: a stream that waits for results is not answered as a whole.
OF_ENDS = {error.kind for error in (MaxStepsExceeded, ToolTimeout)}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def archers(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Those whose errors are ErrorInfos."""
    return (each for each in operations(document) if not each[1].startswith("/v1/"))


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body that is described: whose, its media type, and what is said of it."""
    for method, path, operation in operations(document):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{method} {path} request", media_type, content
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                yield f"{method} {path} {status}", media_type, content


def examples(media_type: str, content: dict[str, Any], components: dict[str, Any]) -> list[Any]:
    """All that one body has, or else its schema."""
    named = [each["value"] for each in content.get("examples", {}).values()]
    own = [*named, content["example"]] if "example" in content else named
    schema = components.get(content["schema"].get("$ref", "").rpartition("/")[2], content["schema"])
    own = own or list(schema.get("examples", ()))
    return [event for each in own for event in events(each)] if media_type == "text/event-stream" else own


def events(text: str) -> Iterator[dict[str, str]]:
    """Server-sent events as their schema has them."""
    for block in text.strip().split("\n\n"):
        yield dict(line.split(": ", 1) for line in block.split("\n"))


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z][A-Za-z]+", name), name
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert set(operation["tags"]) <= tags, (method, path)


def test_every_route_is_described_with_its_errors(make_settings: MakeSettings) -> None:
    app = create_app(make_settings())
    described = app.openapi()["paths"]
    routes = [route for route in iter_route_contexts(app.routes) if isinstance(route.original_route, APIRoute)]
    assert len(routes) > 15
    for route in routes:
        path = str(route.path_format)
        if not route.include_in_schema:
            # What is for people, and the files of that.
            assert path == "/" or path.startswith(("/console", "/docs", "/redoc")), f"{path} is left out"
            continue
        for method in route.methods or ():
            statuses = described[path][method.lower()]["responses"]
            assert [status for status in statuses if status >= "400"], f"{method} {path} describes no error"


def test_every_body_has_a_schema_and_examples_that_fit_it(document: dict[str, Any]) -> None:
    components = strict(document["components"]["schemas"])
    seen = 0
    for whose, media_type, content in contents(document):
        assert content.get("schema"), whose
        assert examples(media_type, content, components), f"{whose} {media_type} has no example"
        validator = jsonschema_rs.Draft202012Validator(
            {**strict(content["schema"]), "components": {"schemas": components}}, validate_formats=True
        )
        for example in examples(media_type, content, components):
            problem = next(iter(validator.iter_errors(example)), None)
            assert problem is None, f"{whose}: {problem}"
            seen += 1
    assert seen > 100


def test_the_schemas_own_examples_fit_them(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    for name, schema in components.items():
        validator = jsonschema_rs.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": {"schemas": components}}, validate_formats=True
        )
        for example in schema.get("examples", ()):
            problem = next(iter(validator.iter_errors(example)), None)
            assert problem is None, f"{name}: {problem}"


def test_each_kind_of_error_has_an_example_under_its_own_status(document: dict[str, Any]) -> None:
    found: set[str] = set()
    for method, path, operation in archers(document):
        for status, response in operation["responses"].items():
            if status < "400" or path.startswith("/health"):
                continue
            for name, example in response["content"]["application/json"]["examples"].items():
                error = example["value"]["error"]
                assert error["kind"] == name, (method, path, status)
                assert str(EXAMPLES[name].http_status) == status, (method, path, status)
                assert error["hint"], name
                found.add(name)
    assert found == set(CODE_OF_KIND) - OF_SOCKETS - OF_ENDS


def test_fastapis_own_error_is_nowhere(document: dict[str, Any]) -> None:
    assert "ValidationError" not in str(document)


def test_every_answer_has_a_request_id_and_errors_tell_when_to_try_again(document: dict[str, Any]) -> None:
    for method, path, operation in archers(document):
        for status, response in operation["responses"].items():
            assert "X-Request-ID" in response["headers"], (method, path, status)
            retryable = '"retry_after_ms"' in str(response.get("content", "")).replace("'", '"')
            assert not retryable or "Retry-After" in response["headers"] or status == "200", (method, path, status)
            assert ("WWW-Authenticate" in response["headers"]) == (status == "401"), (method, path, status)


def test_health_needs_no_credential_and_the_rest_may(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        is_open = operation.get("security") == []
        assert is_open == path.startswith("/health")
        assert ("401" in operation["responses"]) != is_open
    assert document["security"] == [{"bearer": []}, {}]


def test_the_document_does_not_depend_on_the_machine(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = openapi_document()
    monkeypatch.setenv("ARCHER_APP_NAME", "Elsewhere")
    monkeypatch.setenv("ARCHER_MAX_STREAMS", "3")
    assert openapi_document() == before
    settings = make_settings(app_name="Mine", app_version="9", port=9999, auth_token="secret", max_content_bytes=5)
    mine = create_app(settings).openapi()
    assert mine["info"]["title"] == "Mine"
    assert mine | {"info": before["info"]} == before
    assert "servers" not in before


def test_the_socket_is_told_of(document: dict[str, Any]) -> None:
    assert "/api/v1/ws" in document["info"]["description"]
    assert "rpc.discover" in document["info"]["description"]


def test_the_pages_for_users_name_only_routes_that_exist(document: dict[str, Any]) -> None:
    patterns = [re.compile(re.sub(r"\\{\w+\\}", r"[^/]+", re.escape(path))) for path in document["paths"]]
    text = "\n".join(map(page, PAGES))
    named = set(re.findall(r"(?<![\w.])/(?:api/v1|v1|health)(?:/[\w.{}-]+)*", text)) - {
        "/api/v1/ws",
        "/api/v1",
        "/v1",
    }
    assert len(named) > 8
    for path in named:
        assert any(pattern.fullmatch(path) for pattern in patterns), f"a page names {path}"
