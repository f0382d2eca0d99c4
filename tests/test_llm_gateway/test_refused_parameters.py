"""What a server refuses of what nobody asked for is found in its error, left out, and remembered."""

import json
from typing import Any

import pytest

from archer_ws.llm_gateway.resilience.refused_parameters import (
    MAX_MODELS,
    MAX_TRIES,
    ErrorText,
    FittedRequest,
    RefusedParameters,
)

MESSAGES = [{"role": "user", "content": "temperature, max_tokens and stream_options, please"}]
BODY: dict[str, Any] = {
    "model": "m",
    "messages": MESSAGES,
    "temperature": 0.7,
    "max_tokens": 2048,
    "stream": True,
    "stream_options": {"include_usage": True},
}
ALL_OURS = frozenset({"temperature", "max_tokens"})


def request(
    defaulted: frozenset[str] = ALL_OURS, memory: RefusedParameters | None = None, **more: object
) -> FittedRequest:
    return FittedRequest(memory or RefusedParameters(), "m", BODY | more, defaulted)


def refused(message: str = "", **fields: object) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (refused("no", param="temperature"), "temperature"),
        (refused("no", param="stream_options.include_usage"), "stream_options"),
        (refused("Unsupported value: 'temperature' does not support 0.7 with this model."), "temperature"),
        (refused("`temperature` is deprecated for this model."), "temperature"),
        (refused("Unrecognized request argument supplied: stream_options"), "stream_options"),
        (refused("STREAM OPTIONS are not supported here"), "stream_options"),
        (refused("streamOptions is not supported"), "stream_options"),
        (b'{"object": "error", "message": "temperature must be 1", "code": 400}', "temperature"),
        (b'{"detail": "temperature is not supported"}', "temperature"),
        (
            b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not '
            b'permitted", "input": {"include_usage": true}}]}',
            "stream_options",
        ),
        (
            b'{"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "no",'
            b' "input": {"temperature": 1}, "ctx": {"temperature": 1}}], "body": {"temperature": 1}}',
            "stream_options",
        ),
        (
            b'[{"error": {"code": 400, "message": "Invalid JSON payload received. Unknown name \\"stream_options\\": '
            b'Cannot find field.", "status": "INVALID_ARGUMENT"}}]',
            "stream_options",
        ),
        (b'{"errors": {"temperature": ["Unknown field."]}}', "temperature"),
        (b"422: body -> temperature: extra fields not permitted", "temperature"),
        (b'{"error": "temperature"}', "temperature"),
        (refused("stream_options, and then temperature"), "stream_options"),
        (refused("stream_options is fine", param="temperature"), "temperature"),
        (refused("the temperatures of max_tokens_to_sample"), None),
        # Groq repeats what the model generated.
        (refused("Failed to generate JSON.", failed_generation='{"city": "Oslo", "temperature": 21'), None),
        # OpenRouter repeats the provider's error as text.
        (
            refused(
                "Provider returned error",
                metadata={"raw": refused("No JSON.", failed_generation='{"temperature": 21').decode()},
            ),
            None,
        ),
        (
            refused(
                "Provider returned error",
                metadata={"raw": refused("temperature and more", param="stream_options").decode()},
            ),
            "stream_options",
        ),
        (refused("[temperature] is not supported"), "temperature"),
        (refused("messages: too many"), None),
        (b"<html><style>temperature</style>", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 5000, None),
        (b"null", None),
    ],
)
def test_the_parameter_that_an_error_is_about(body: bytes, named: str | None) -> None:
    assert ErrorText.of(body).first_named(["temperature", "stream_options"]) == named


def test_what_is_refused_goes_one_after_the_other_until_it_is_taken() -> None:
    fitted = request()
    assert fitted.body == BODY
    assert fitted.yields(refused("'max_tokens' is not supported. Use 'max_completion_tokens' instead."))
    assert fitted.body["max_completion_tokens"] == 2048
    assert "max_tokens" not in fitted.body
    assert fitted.yields(refused(param="temperature"))
    assert fitted.yields(refused(param="stream_options"))
    assert fitted.yields(refused("unknown field max_completion_tokens"))
    assert fitted.body == {"model": "m", "messages": MESSAGES, "stream": True}
    assert not fitted.yields(refused(param="temperature"))


def test_a_server_that_knows_max_tokens_alone_gets_it() -> None:
    body = {"model": "m", "messages": MESSAGES, "max_completion_tokens": 5}
    fitted = FittedRequest(RefusedParameters(), "m", body, frozenset())
    assert fitted.yields(refused("Unknown field: max_completion_tokens"))
    assert fitted.body == {"model": "m", "messages": MESSAGES, "max_tokens": 5}


def test_what_the_client_asked_for_is_never_left_out() -> None:
    fitted = request(frozenset({"max_tokens"}), seed=7, stop=["END"])
    for name in ("temperature", "seed", "stop", "model", "messages", "stream"):
        assert not fitted.yields(refused(f"{name} is not supported", param=name))
    assert fitted.refused_of_the_clients(refused(param="seed")) == "seed"
    assert fitted.refused_of_the_clients(refused(param="max_tokens")) is None
    assert fitted.refused_of_the_clients(refused(param="messages")) is None


def test_a_default_beside_what_the_client_asked_for_makes_way_for_it() -> None:
    fitted = request(top_p=0.5)
    assert fitted.yields(refused("temperature and top_p cannot both be specified for this model"))
    assert fitted.body["top_p"] == 0.5
    assert "temperature" not in fitted.body


def test_the_clients_bound_may_change_its_name_and_nothing_else() -> None:
    fitted = request(frozenset(), max_tokens=5)
    assert not fitted.yields(refused("max_tokens is too large: 5. This model gives at most 4", param="max_tokens"))
    assert fitted.yields(refused("unsupported parameter", param="max_tokens"))
    assert fitted.body["max_completion_tokens"] == 5
    assert not fitted.yields(refused("unsupported parameter", param="max_completion_tokens"))


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is too large: 2048. This model supports at most 1024 completion tokens",
        "max_tokens must be less than 1024",
        "max_tokens: 2048 > 1024",
    ],
)
def test_a_default_bound_that_is_too_large_goes_at_once(said: str) -> None:
    fitted = request()
    assert fitted.yields(refused(said, param="max_tokens"))
    assert not {"max_tokens", "max_completion_tokens"} & set(fitted.body)
    assert fitted.taken() == ["max_completion_tokens", "max_tokens"]
    assert not {"max_tokens", "max_completion_tokens"} & set(FittedRequest(fitted._memory, "m", BODY, ALL_OURS).body)


def test_a_default_bound_that_a_long_prompt_leaves_no_room_for_goes_for_that_prompt_alone() -> None:
    memory = RefusedParameters()
    fitted = request(memory=memory)
    said = refused("maximum context length is 4096: temperature 0.7, 3000 tokens of messages, 2048 of max_tokens")
    assert fitted.yields(said, is_too_long=True)
    assert "max_tokens" not in fitted.body
    assert "temperature" in fitted.body
    assert not fitted.yields(said, is_too_long=True)
    assert fitted.taken() == []
    assert request(memory=memory).body == BODY
    assert not request(frozenset(), memory=memory).yields(said, is_too_long=True)


def test_what_others_learned_meanwhile_is_kept() -> None:
    memory = RefusedParameters()
    one, other = request(memory=memory), request(memory=memory)
    for fitted, name in ((one, "temperature"), (other, "stream_options")):
        assert fitted.yields(refused(param=name))
        assert fitted.taken() == [name]
    assert not {"temperature", "stream_options"} & set(request(memory=memory).body)


def test_the_next_request_of_the_model_begins_where_the_last_was_taken() -> None:
    memory = RefusedParameters()
    first = request(memory=memory)
    assert first.yields(refused("use max_completion_tokens instead of max_tokens"))
    assert first.yields(refused(param="temperature"))
    assert request(memory=memory).body == BODY  # nothing is known before something was taken
    first.taken()
    assert request(memory=memory).body == first.body
    assert FittedRequest(memory, "other", BODY, ALL_OURS).body == BODY
    asked = request(frozenset(), memory=memory).body
    assert (asked["temperature"], asked["max_completion_tokens"]) == (0.7, 2048)


def test_tries_end_and_memory_is_bounded() -> None:
    names = [f"field_{number}" for number in range(MAX_TRIES + 1)]
    fitted = FittedRequest(RefusedParameters(), "m", BODY | dict.fromkeys(names, 1), ALL_OURS)
    assert [fitted.yields(refused(param=name)) for name in names] == [True] * MAX_TRIES + [False]
    memory = RefusedParameters()
    for number in range(MAX_MODELS + 1):
        memory.keep(str(number), {"temperature": None})
    assert not memory.get("0")
    assert memory.get("1")


def test_a_model_whose_refusals_were_last_seen_again_is_not_the_first_to_be_dropped() -> None:
    memory = RefusedParameters()
    for number in range(MAX_MODELS):
        memory.keep(str(number), {"temperature": None})
    memory.keep("0", {"top_p": None})
    memory.keep("another", {"temperature": None})
    assert memory.get("0") == {"temperature": None, "top_p": None}
    assert not memory.get("1")
