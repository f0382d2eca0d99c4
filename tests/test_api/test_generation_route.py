"""The routes that begin generations refuse, when they are made, whatever they would ignore."""

from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Request, Response
from pydantic import BaseModel

from archer_ws.api.dependencies import Principal, RequestId, ServicesDep
from archer_ws.api.http.generation_route import GenerationRoute
from archer_ws.api.routes import chat, openai_compat


class Question(BaseModel):
    text: str


async def endpoint(
    body: Question, request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Response:
    return Response(f"{principal} asks {body.text}")


async def guard() -> None:
    raise AssertionError


def router(**options: Any) -> APIRouter:
    return APIRouter(route_class=GenerationRoute, **options)


def test_what_only_documents_a_route_is_taken() -> None:
    made = router(prefix="/chat", tags=["chat"])
    made.post("/ask", response_model=Question, status_code=200, responses={404: {}}, operation_id="ask")(endpoint)
    assert made.routes


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dependencies": [Depends(guard)]}, "dependencies"),
        ({"response_model_exclude_none": True}, "response_model_exclude_none"),
        ({"response_model_include": {"text"}}, "response_model_include"),
        ({"response_model_by_alias": False}, "response_model_by_alias"),
        ({"max_body_size": 10}, "max_body_size"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_option_that_fastapi_s_handler_alone_obeys_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(TypeError, match=rf"/ask .* alone obeys {named}$"):
        router().post("/ask", **options)(endpoint)


@pytest.mark.parametrize(
    "options",
    [
        {"dependencies": [Depends(guard)]},
        {"dependency_overrides_provider": FastAPI()},
        {"strict_content_type": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_a_router_gives_all_its_routes_is_refused_too(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        router(**options).post("/ask")(endpoint)


async def one_more(
    body: Question,
    request: Request,
    services: ServicesDep,
    principal: Principal,
    request_id: RequestId,
    *,
    x_debug: Annotated[str | None, Header()] = None,
) -> Response:
    return Response()


async def another_principal(
    body: Question,
    request: Request,
    services: ServicesDep,
    principal: Annotated[str, Depends(guard)],
    request_id: RequestId,
) -> Response:
    return Response()


async def no_model(
    body: dict[str, Any], request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Response:
    return Response()


async def within(
    body: Annotated[Question, Body(embed=True)],
    request: Request,
    services: ServicesDep,
    principal: Principal,
    request_id: RequestId,
) -> Response:
    return Response()


async def no_response(
    body: Question, request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Question:
    return body


def in_a_thread(
    body: Question, request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> Response:
    return Response()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (one_more, "x_debug"),
        (another_principal, "not as it has principal"),
        (no_model, "as a model"),
        (within, "embed"),
        (no_response, "must return a Response"),
        (in_a_thread, "coroutine function"),
    ],
)
def test_an_endpoint_that_expects_more_than_it_gets_is_refused(wrong: Callable[..., Any], why: str) -> None:
    with pytest.raises(TypeError, match=why):
        router().post("/ask")(wrong)


@pytest.mark.parametrize("generations", [chat.router, openai_compat.completions_router])
async def test_a_router_that_was_included_says_so_and_serves_nothing_unguarded(generations: APIRouter) -> None:
    app = FastAPI()
    app.include_router(generations, dependencies=[Depends(guard)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(TypeError, match=r"extend app\.router\.routes"):
            await client.post(f"{generations.prefix}/completions", json={})
