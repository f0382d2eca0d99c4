import pytest
from structlog.testing import capture_logs

from archer_ws.core.exceptions import InvalidParams
from archer_ws.llm_gateway.anthropic.request import request_body
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole


def said(*turns: tuple[str, str]) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole(role), content=content) for role, content in turns]


def body_of(
    messages: list[ChatMessage],
    model: str = "claude-3-5-sonnet-20241022",
    temperature: float | None = None,
    max_tokens: int | None = None,
    options: ChatOptions | None = None,
) -> dict[str, object]:
    return request_body(
        messages,
        model=model,
        facts=load_catalog().facts("anthropic", model),
        temperature=temperature,
        max_tokens=max_tokens,
        options=options or ChatOptions(),
    )


def test_the_least_request() -> None:
    assert body_of(said(("user", "Hi"))) == {
        "model": "claude-3-5-sonnet-20241022",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": "Hi"}],
    }


@pytest.mark.parametrize(
    ("model", "bound"), [("claude-3-opus-20240229", 4096), ("claude-opus-5-5", 128_000), ("a-proxys-model", 8192)]
)
def test_the_bound_that_the_api_needs_is_the_models_own(model: str, bound: int) -> None:
    assert body_of(said(("user", "Hi")), model)["max_tokens"] == bound


def test_a_long_prompt_leaves_less_for_the_answer_and_never_nothing() -> None:
    facts = load_catalog().facts("anthropic", "claude-opus-5-5")
    assert facts.context_window is not None
    assert facts.max_output_tokens is not None
    # The API refuses a prompt and a bound that are more than the context together.
    room = facts.max_output_tokens // 2
    prompt = "x" * 3 * (facts.context_window - room)
    assert body_of(said(("user", prompt)), "claude-opus-5-5")["max_tokens"] == room
    assert body_of(said(("user", prompt * 2)), "claude-opus-5-5")["max_tokens"] == 1024


def test_messages_that_say_nothing_are_left_out() -> None:
    messages = said(("system", " "), ("user", "Hi"), ("assistant", ""), ("user", "\n"), ("user", "Hello?"))

    body = body_of(messages)

    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hello?"}]


def test_an_assistants_message_to_go_on_with_ends_in_no_white_space() -> None:
    messages = said(("user", "Hi"), ("assistant", "Hello, "))

    assert body_of(messages)["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello,"},
    ]


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [("system", "Be brief.")],
        [("user", "  ")],
        [("assistant", "Hello"), ("user", "Hi")],
        [("system", "Be brief."), ("assistant", "Hello")],
    ],
)
def test_a_conversation_that_anthropic_has_not_is_refused_with_a_hint(turns: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidParams) as caught:
        body_of(said(*turns))

    assert "role user" in str(caught.value.hint)
    assert caught.value.errors[0].path == "messages"


def test_a_temperature_above_anthropics_is_lowered_with_a_warning() -> None:
    with capture_logs() as logs:
        body = body_of(said(("user", "Hi")), temperature=1.7)

    assert body["temperature"] == 1.0
    assert [(entry["event"], entry["parameter"], entry["to"]) for entry in logs] == [
        ("parameter_lowered", "temperature", 1.0)
    ]


def test_of_two_sampling_parameters_temperature_stays_where_a_model_takes_one() -> None:
    with capture_logs() as logs:
        body = body_of(said(("user", "Hi")), "claude-haiku-4-5", 0.5, options=ChatOptions(top_p=0.9))
        alone = body_of(said(("user", "Hi")), "claude-haiku-4-5", options=ChatOptions(top_p=0.9))

    assert body["temperature"] == 0.5
    assert "top_p" not in body
    assert alone["top_p"] == 0.9
    assert [(entry["event"], entry["parameter"]) for entry in logs] == [("parameter_dropped", "top_p")]


def test_a_seed_and_blank_stop_sequences_are_dropped_with_a_warning() -> None:
    with capture_logs() as logs:
        body = body_of(said(("user", "Hi")), options=ChatOptions(stop=("\n", "END", " "), seed=1))
        blank = body_of(said(("user", "Hi")), options=ChatOptions(stop=("\n",)))

    assert body["stop_sequences"] == ["END"]
    assert not {"seed", "stop"} & set(body)
    assert "stop_sequences" not in blank
    assert [entry["parameter"] for entry in logs] == ["seed", "stop", "stop"]
