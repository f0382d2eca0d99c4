"""Decides by which of OpenAI's two APIs a model is used, and which facts apply there.

Pure. OpenAI's own models from gpt-5.4 on take tools only by the Responses API, and only it returns their reasoning, as
summaries and as encrypted items: the catalog lists them, and all requests for them use it, with or without tools. Other
servers with OpenAI's API usually have only chat completions, whatever a model's name, so the catalog applies to OpenAI
itself; the owner of another server can set `ARCHER_OPENAI_API`.
https://developers.openai.com/api/docs/guides/migrate-to-responses
"""

from typing import Literal

from msgspec.structs import replace

from archer_ws.llm_gateway.catalog import Catalog, ModelFacts, Parameter

#: `auto`: the catalog's API for OpenAI itself, and chat completions for all other servers.
ApiSetting = Literal["auto", "chat", "responses"]
#: Parameters that the Responses API does not have.
_NOT_IN_RESPONSES: frozenset[Parameter] = frozenset({"stop", "seed"})


def catalog_for(catalog: Catalog, *, omits: frozenset[Parameter], setting: ApiSetting, is_hosted: bool) -> Catalog:
    """The catalog with the facts that apply to requests to a server (see `facts_for_api`).

    Args:
        omits: parameters that it is never sent.
    """
    return catalog.fitted(lambda facts: facts_for_api(facts.without(omits), setting, is_hosted=is_hosted))


def facts_for_api(facts: ModelFacts, setting: ApiSetting, *, is_hosted: bool) -> ModelFacts:
    """The facts about a model for the API that its requests use, which is `api` in the result.

    Args:
        facts: the catalog's facts.
        setting: the owner's setting.
        is_hosted: whether the server is OpenAI itself.
    """
    if setting == "responses" or (setting == "auto" and is_hosted and facts.api == "responses"):
        return replace(facts, api="responses", refuses=facts.refuses | _NOT_IN_RESPONSES)
    changes: dict[str, object] = {}
    if facts.api == "responses":
        # By chat completions it responds with 400 to tools, unless reasoning is off.
        changes = {"api": "chat", "tools": False}
    if facts.responses_efforts:
        known = facts.reasoning_efforts or ()
        changes["reasoning_efforts"] = tuple(effort for effort in known if effort not in facts.responses_efforts)
    return replace(facts, **changes) if changes else facts
