"""DSPy's signatures over its adapters, streamed, and with a tool: see forms.py."""

from typing import Any

import dspy

from tests.interop.python.forms import Ask, City, count_people, run


class Describe(dspy.Signature):  # type: ignore[misc] # installed in an environment of its own
    """Describe a city."""

    question: str = dspy.InputField()
    city: City = dspy.OutputField()


def model(ask: Ask, **given: Any) -> Any:
    return dspy.LM(
        f"openai/{ask.model}", api_base=ask.base_url, api_key=ask.api_key, cache=False, num_retries=0, **given
    )


def predicted(adapter: Any, **given: Any) -> Any:
    def flow(ask: Ask) -> Any:
        with dspy.context(lm=model(ask, **given), adapter=adapter()):
            return dspy.Predict(Describe)(question=ask.question).city

    return flow


def streamed(adapter: Any, **given: Any) -> Any:
    async def flow(ask: Ask) -> Any:
        with dspy.context(lm=model(ask, **given), adapter=adapter()):
            predict = dspy.streamify(dspy.Predict(Describe))
            pieces = [piece async for piece in predict(question=ask.question)]
        return pieces[-1].city

    return flow


def with_tool(**given: Any) -> Any:
    def flow(ask: Ask) -> Any:
        class Count(dspy.Signature):  # type: ignore[misc]
            """Answer with tools."""

            question: str = dspy.InputField()
            tools: list[dspy.Tool] = dspy.InputField()
            calls: dspy.ToolCalls = dspy.OutputField()

        tool = dspy.Tool(count_people)
        with dspy.context(lm=model(ask, **given), adapter=dspy.ChatAdapter(use_native_function_calling=True)):
            calls = dspy.Predict(Count)(question=ask.question, tools=[tool]).calls
        (call,) = calls.tool_calls
        return tool(**call.args)

    return flow


FLOWS: dict[str, Any] = {}
for name, given in {"": {}, ", by litellm": {"engine": "litellm"}}.items():
    FLOWS |= {
        f"chat adapter{name}": predicted(dspy.ChatAdapter, **given),
        f"json adapter{name}": predicted(dspy.JSONAdapter, **given),
        f"chat adapter, streamed{name}": streamed(dspy.ChatAdapter, **given),
        f"tool{name}": with_tool(**given),
    }
run(FLOWS)
