"""Which of OpenAI's two APIs a model is asked by, and what holds of the model there.

Pure. OpenAI's own models from gpt-5.4 on take tools by the Responses API alone, and only it gives their reasoning, as
summaries and as encrypted items: the catalog names them, and they are always asked by it, with tools or without. Other
servers behind OpenAI's API mostly have chat completions alone, whatever a model's name is, so the catalog's word is for
OpenAI itself; the owner of another server (`ARCHER_OPENAI_API`) may know better.
https://developers.openai.com/api/docs/guides/migrate-to-responses
"""

from typing import Literal

from archer_ws.llm_gateway.catalog import ModelFacts, Parameter

#: `auto`: as the catalog says for OpenAI itself, and chat completions for all other servers.
ApiSetting = Literal["auto", "chat", "responses"]
#: What a request of the Responses API has no field for.
_NOT_IN_RESPONSES: frozenset[Parameter] = frozenset({"stop", "seed"})


def facts_for_api(facts: ModelFacts, setting: ApiSetting, *, is_hosted: bool) -> ModelFacts:
    """What holds of a model by the API that it is asked by, which is the result's `api`.

    Args:
        facts: what the catalog knows.
        setting: the owner's word.
        is_hosted: whether the server is OpenAI itself.
    """
    if setting == "responses" or (setting == "auto" and is_hosted and facts.api == "responses"):
        return facts.model_copy(update={"api": "responses", "refuses": facts.refuses | _NOT_IN_RESPONSES})
    changes: dict[str, object] = {}
    if facts.api == "responses":
        # By chat completions it answers 400 to tools, unless it is kept from reasoning.
        changes = {"api": "chat", "tools": False}
    if facts.responses_efforts:
        known = facts.reasoning_efforts or ()
        changes["reasoning_efforts"] = tuple(effort for effort in known if effort not in facts.responses_efforts)
    return facts.model_copy(update=changes) if changes else facts
