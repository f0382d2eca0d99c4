import pytest

from archer_ws.llm_gateway.catalog import UNKNOWN_MODEL, Catalog, ModelFacts, load_catalog


@pytest.mark.parametrize(
    ("provider", "model", "context_window"),
    [
        ("openai", "gpt-4o", 128_000),
        ("openai", "gpt-4o-mini", 128_000),
        ("openai", "gpt-4-turbo", 128_000),
        ("anthropic", "claude-3-5-sonnet-20241022", 200_000),
        ("anthropic", "claude-3-opus-20240229", 200_000),
    ],
)
def test_every_model_the_specification_names_is_listed_with_its_context(
    provider: str, model: str, context_window: int
) -> None:
    catalog = load_catalog()

    assert model in [entry.model for entry in catalog.listed(provider)]
    facts = catalog.facts(provider, model)
    assert facts.context_window == context_window
    assert facts.max_output_tokens
    assert not facts.refuses & {"temperature", "top_p", "stop"}


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("gpt-5-mini-2025-08-07", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("o1", "openai"),
        ("o1-mini", "openai"),
        ("o3-mini-2025-01-31", "openai"),
        ("o4-mini", "openai"),
        ("ft:gpt-4o-mini-2024-07-18:my-org::abc123", "openai"),
        ("ft:o4-mini-2025-04-16:my-org::abc123", "openai"),
        ("claude-3-opus-20240229", "anthropic"),
        ("claude-opus-99", "anthropic"),
        ("llama3.2", None),
        ("gpt-oss", None),
        ("gpt-oss:20b", None),
        ("gpt-oss-120b", None),
        ("gpt-4o:latest", None),
        ("o1-foo:7b", None),
        ("o1x", None),
        ("o10", None),
        ("olmo2", None),
        ("hf.co/bartowski/gpt-4o-distill", None),
        ("gpt-x/claude", None),
        ("ft:llama3", None),
        ("my-claude-", None),
        ("", None),
    ],
)
def test_a_models_name_tells_its_provider_and_open_models_are_nobodys(model: str, provider: str | None) -> None:
    assert load_catalog().provider_of(model) == provider


@pytest.mark.parametrize(
    "model",
    [
        "o1",
        "o1-2024-12-17",
        "o3",
        "o3-pro",
        "o4-mini",
        "gpt-5",
        "gpt-5-2025-08-07",
        "gpt-5.3-x",
        "gpt-6-sol",
        "gpt-6.9",
    ],
)
def test_openais_reasoning_models_take_max_completion_tokens_and_no_sampling(model: str) -> None:
    facts = load_catalog().facts("openai", model)

    assert facts.max_tokens_parameter == "max_completion_tokens"
    assert {"temperature", "top_p"} <= facts.refuses


def test_openais_chat_model_of_the_gpt_5_family_samples() -> None:
    assert not load_catalog().facts("openai", "gpt-5-chat-latest").refuses


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4.1-mini", "gpt-3.5-turbo-0125", "llama-70b"])
def test_other_models_at_openais_api_have_no_quirks(model: str) -> None:
    facts = load_catalog().facts("openai", model)

    assert facts.max_tokens_parameter == "max_tokens"
    assert not facts.refuses


@pytest.mark.parametrize(
    "model", ["claude-opus-4-7", "claude-opus-5-5", "claude-sonnet-5", "claude-haiku-5-5", "claude-yet-unborn-9"]
)
def test_newer_claude_models_refuse_both_sampling_parameters(model: str) -> None:
    assert {"temperature", "top_p"} <= load_catalog().facts("anthropic", model).refuses


@pytest.mark.parametrize(
    "model", ["claude-opus-4-1-20250805", "claude-sonnet-4-5", "claude-haiku-4-5-20251001", "claude-sonnet-4-6"]
)
def test_claude_4_models_take_one_sampling_parameter_at_a_time(model: str) -> None:
    facts = load_catalog().facts("anthropic", model)

    assert facts.one_sampling_parameter
    assert not facts.refuses & {"temperature", "top_p"}


@pytest.mark.parametrize("model", ["claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-new-9", "some-proxys-model"])
def test_anthropics_temperature_ends_at_one_and_there_is_no_seed(model: str) -> None:
    facts = load_catalog().facts("anthropic", model)

    assert facts.max_temperature == 1.0
    assert "seed" in facts.refuses


@pytest.mark.parametrize(
    ("provider", "snapshot", "model"),
    [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:my-org::abc123", "gpt-4o-mini"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4"),
        ("anthropic", "claude-3-5-sonnet-latest", "claude-3-5-*"),
    ],
)
def test_a_snapshot_has_the_facts_of_its_model_unless_it_has_its_own(provider: str, snapshot: str, model: str) -> None:
    assert load_catalog().facts(provider, snapshot).model == model


def test_the_longest_family_wins_and_an_unknown_model_has_no_quirks() -> None:
    catalog = Catalog(
        inference={},
        models=(
            ModelFacts(provider="p", model="m-*", context_window=1),
            ModelFacts(provider="p", model="m-long-*", context_window=2),
            ModelFacts(provider="q", model="m-long-er-*", context_window=3),
        ),
    )

    assert catalog.facts("p", "m-long-er-1").context_window == 2
    assert catalog.facts("p", "m-short").context_window == 1
    assert catalog.facts("p", "x") == UNKNOWN_MODEL


def test_names_from_requests_do_not_fill_the_memory() -> None:
    catalog = Catalog(inference={}, models=())

    for number in range(3000):
        catalog.facts("p", f"made-up-{number}")
        catalog.provider_of(f"made-up-{number}")

    assert len(catalog._cache) <= 1024
    assert len(catalog._providers) <= 1024


def test_no_model_is_listed_twice() -> None:
    names = [(entry.provider, entry.model) for entry in load_catalog().models]

    assert len(names) == len(set(names))


def test_the_embedded_model_is_kept_from_repeating_itself_under_each_of_its_names() -> None:
    for name in ("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-Instruct-Q8_0"):
        facts = load_catalog().facts("local", name)
        assert facts.default_max_tokens == 400
        assert {"repeat_penalty", "dry_multiplier"} <= facts.sampling.keys()
    assert not load_catalog().facts("local", "Qwen3-4B-Q4_K_M").sampling
    assert not load_catalog().facts("ollama", "SmolLM2-135M-Instruct").sampling
