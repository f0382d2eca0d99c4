"""SDKs that want an object, or an answer by way of a tool, each in every way that it knows; and what must come of it
with a model of each provider (they play their part: tests/fakes/formed_answers.py).

An outcome is the object, the text, or the error that the SDK raises.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tests.fakes.any_provider import PROVIDERS
from tests.fakes.formed_answers import OSLO, TEXT
from tests.interop.javascript import NODE_PROJECT, javascript
from tests.interop.python_sdks import MODELS, told_by

#: What a flow needs that not every provider has.
Need = Literal["json_object", "a forced call", "a format beside tools"]
#: How the server refuses it, as every SDK's error must say. Else all providers serve all.
REFUSALS: Mapping[tuple[str, Need], str] = {
    ("anthropic", "json_object"): "response_format: anthropic has no json_object. Send",
    ("ollama", "a forced call"): "tool_choice: ollama leaves it to the model whether and what it calls. Send",
    ("ollama", "a format beside tools"): "response_format: ollama supports a format or tools, but not both",
}


@dataclass(frozen=True)
class Flow:
    """A way in which an SDK is used.

    Attributes:
        question: what is asked; it says what the provider must be asked for.
        needs: what it needs that not every provider has.
        answer: what comes of it where it is served.
        rounds: how often the model is asked.
        fails: the SDK's own error, where the model gives no object.
        way: its name in the program, where that is another one.
        providers: those whose models do so.
    """

    question: str
    needs: tuple[Need, ...] = ()
    answer: Any = None
    rounds: int = 1
    fails: str = ""
    way: str = ""
    providers: tuple[str, ...] = PROVIDERS


class Cell(NamedTuple):
    """A flow with a provider's model."""

    flow: str
    provider: str


@dataclass(frozen=True)
class Sdk:
    """An SDK's flows, by name, and how they are run.

    Attributes:
        program: the module below `python/`, or the file of the Node project.
        refusal: the error of its own as which it raises a refused request.
        environment: of a Python module: which has it installed.
    """

    program: str
    refusal: str
    flows: Mapping[str, Flow]
    environment: str = "python"

    def cells(self) -> Iterator[Cell]:
        return (Cell(name, provider) for name, flow in self.flows.items() for provider in flow.providers)


def refusal(flow: Flow, provider: str) -> str | None:
    """How the server refuses the flow; None where it is served."""
    return next((REFUSALS[provider, need] for need in flow.needs if (provider, need) in REFUSALS), None)


async def outcomes(sdk: Sdk, base_url: str) -> dict[Cell, dict[str, Any]]:
    """What comes of each flow with each provider at this base URL."""
    cells = list(sdk.cells())
    asked = [
        {"flow": flow.way or cell.flow, "model": MODELS[cell.provider], "question": flow.question}
        for cell in cells
        for flow in [sdk.flows[cell.flow]]
    ]
    told = await (_by_node if sdk.program.endswith(".mjs") else _by_python)(sdk, base_url, asked)
    return dict(zip(cells, told, strict=True))


async def _by_python(sdk: Sdk, base_url: str, asked: list[dict[str, str]]) -> list[dict[str, Any]]:
    given = {"server": {"base_url": base_url, "api_key": "sk-anything"}, "asked": asked}
    told: list[dict[str, Any]] = await told_by(f"python.{sdk.program}", given, environment=sdk.environment)
    return told


async def _by_node(sdk: Sdk, base_url: str, asked: list[dict[str, str]]) -> list[dict[str, Any]]:
    code = "const { outcome } = await import(module); return await outcome(server, given);"
    server = {"baseURL": base_url, "apiKey": "sk-anything"}
    async with javascript() as js:
        return [
            await js.run(code, module=(NODE_PROJECT / sdk.program).as_uri(), server=server, given=each)
            for each in asked
        ]


_BY_SCHEMA = Flow("Describe Oslo by schema.", answer=OSLO)
_AS_JSON = Flow("Describe Oslo as JSON.", ("json_object",), OSLO)
_BY_CALL = Flow("Describe Oslo by a call.", ("a forced call",), OSLO)
_IN_WORDS = Flow("Describe Oslo in words.", answer=OSLO)
#: DSPy knows models by their names, and asks for what it knows of them: schemas, JSON, or in words alone.
_IN_ANY_FORM = Flow("Describe Oslo in any form.", answer=OSLO)
_IN_TEXT = Flow("Describe Oslo in text.", answer=TEXT)


def _beside_a_tool(flow: Flow, *needs: Need) -> Flow:
    """The same, once the model has used a tool."""
    return Flow(f"{flow.question} First look up its people.", (*flow.needs, *needs), flow.answer, rounds=2)


def _again(flow: Flow) -> Flow:
    """The same, where the model's first answer does not fit the SDK's model."""
    return Flow(f"{flow.question} Then try again.", flow.needs, flow.answer, rounds=2)


def _without_object(way: str, *, cut: str, refused: str = "") -> dict[str, Flow]:
    """A way by schema, where the model's answer is cut off, or refused: the errors that the SDK has for it."""
    flows = {f"{way}, cut off": Flow("Describe Oslo by schema, too long.", fails=cut, way=way)}
    if refused:
        question = "Describe Oslo by schema, and refuse."
        flows[f"{way}, refused by the model"] = Flow(
            question, fails=refused, way=way, providers=("openai", "anthropic")
        )
    return flows


def _in_ways(flows: Mapping[str, Flow], ways: Iterable[str]) -> dict[str, Flow]:
    """Each flow by its name, and by its name with each of these behind it."""
    return {name + way: flow for name, flow in flows.items() for way in ("", *ways)}


_TOOL_ALONE, _SCHEMA_BESIDE = _beside_a_tool(_IN_TEXT), _beside_a_tool(_BY_SCHEMA, "a format beside tools")
_INSTRUCTOR_S = {
    "tools": _BY_CALL,
    "strict tools": _BY_CALL,
    "json": _AS_JSON,
    "json schema": _BY_SCHEMA,
    "markdown": _IN_WORDS,
}
SDKS: Mapping[str, Sdk] = {
    "openai-agents": Sdk(
        "forms_openai_agents",
        "BadRequestError",
        _in_ways(
            {"tool": _TOOL_ALONE, "output type": _BY_SCHEMA, "output type beside a tool": _SCHEMA_BESIDE},
            [", streamed"],
        )
        | _without_object("output type", cut="ModelBehaviorError", refused="ModelRefusalError")
        | _without_object("output type, streamed", cut="ModelBehaviorError", refused="ModelRefusalError"),
    ),
    "instructor": Sdk(
        "forms_instructor",
        "InstructorRetryException",
        _in_ways(_INSTRUCTOR_S, [", partial", ", iterable"])
        | {f"{mode}, asked again": _again(flow) for mode, flow in _INSTRUCTOR_S.items()}
        | _without_object("json schema", cut="IncompleteOutputException"),
        environment="python/older",
    ),
    "dspy": Sdk(
        "forms_dspy",
        "LMInvalidRequestError",
        _in_ways(
            {
                "chat adapter": _IN_WORDS,
                "chat adapter, streamed": _IN_WORDS,
                "json adapter": _IN_ANY_FORM,
                "tool": Flow("Describe Oslo in any form. First look up its people.", answer=str(OSLO["people"])),
            },
            [", by litellm"],
        ),
    ),
    "langchain": Sdk(
        "forms_langchain",
        "OpenAIInvalidRequestError",
        _in_ways({"json_schema": _BY_SCHEMA, "json_mode": _AS_JSON, "function_calling": _BY_CALL}, [", streamed"])
        | _without_object("json_schema", cut="LengthFinishReasonError", refused="OpenAIRefusalError")
        | _without_object("json_schema, streamed", cut="LengthFinishReasonError", refused="OpenAIRefusalError"),
    ),
    "pydantic-ai": Sdk(
        "forms_pydantic_ai",
        "ModelRequestRejectedError",
        _in_ways({"tool output": _BY_CALL, "native output": _BY_SCHEMA, "prompted output": _AS_JSON}, [", streamed"])
        | {
            "tool output beside a tool": _beside_a_tool(_BY_CALL),
            "native output beside a tool": _SCHEMA_BESIDE,
            "prompted output beside a tool": _beside_a_tool(_AS_JSON, "a format beside tools"),
        }
        | _without_object("native output", cut="OutputTokenLimitExceeded", refused="ContentFilterError")
        | _without_object("native output, streamed", cut="OutputTokenLimitExceeded", refused="ContentFilterError"),
    ),
    "ai-sdk": Sdk(
        "ai-sdk/objects.mjs",
        "AI_APICallError",
        {
            "generateObject": _BY_SCHEMA,
            "streamObject": _BY_SCHEMA,
            "generateObject, a list": _BY_SCHEMA,
            "generateText with an output": _BY_SCHEMA,
            "generateText with an output beside a tool": _SCHEMA_BESIDE,
            "generateObject, as JSON": _AS_JSON,
            "streamObject, as JSON": _AS_JSON,
            "generateText with an output, as JSON": _AS_JSON,
            "generateText with an output beside a tool, as JSON": _beside_a_tool(_AS_JSON, "a format beside tools"),
        }
        | _without_object("generateObject", cut="AI_NoObjectGeneratedError", refused="AI_NoObjectGeneratedError")
        | _without_object("streamObject", cut="AI_NoObjectGeneratedError", refused="AI_NoObjectGeneratedError"),
    ),
    "litellm": Sdk(
        "forms_litellm",
        "BadRequestError",
        _in_ways(
            {
                "text": _IN_TEXT,
                "tool": _TOOL_ALONE,
                "model as format": _BY_SCHEMA,
                "json_object": _AS_JSON,
                "model as format beside a tool": _SCHEMA_BESIDE,
            },
            [", streamed"],
        ),
    ),
}
