"""Recognises a provider's refusal of a request that is about its response format. Pure.

Which schemas a provider accepts changes monthly, so the provider decides; its message is reported at the request's
field.
"""

import re

from archer_ws.core.exceptions import ArcherError, FieldError, InvalidParams, ProviderError
from archer_ws.llm_gateway.resilience.refused_parameters import ErrorText

#: The statuses of such a refusal; Ollama uses 500 for a grammar that can't be built.
_STATUSES = frozenset({400, 422, 500})
#: "Invalid schema for response_format 'city'", "text.format.schema", "output_config.format.schema: …", "compiled
#: grammar is too large", "invalid JSON schema in format", "failed to parse grammar".
_ABOUT = re.compile(
    r"response_format|text\.format|output_config\.format|output_format"
    r"|json[_ ]schema|json[_ ]object|\bgrammar\b|\bschema\b"
    r"|'?messages'? must contain the word '?json",
    re.IGNORECASE,
)
#: Words about the schema of something else.
_ABOUT_TOOLS = re.compile(r"\btools?\b|\bfunctions?\b|input_schema", re.IGNORECASE)


def of_the_format(
    failure: ArcherError, status: int, body: bytes, *, beside_tools: bool, path: str = "response_format"
) -> ArcherError:
    """The failure of a request with a format: about `response_format` if the provider's words are about the format,
    else unchanged.

    Args:
        failure: the failure by status and body.
        status: the HTTP status.
        body: the provider's response.
        beside_tools: whether the request had tools with schemas, too.
        path: the request's field that the format was made of.
    """
    if status not in _STATUSES or type(failure) is not ProviderError:
        return failure
    said = ErrorText.of(body)
    is_named = "response_format" in said.names or {"text", "format"} <= said.names
    is_told = _ABOUT.search(said.text) is not None and not (beside_tools and _ABOUT_TOOLS.search(said.text))
    if not (is_named or is_told):
        return failure
    return InvalidParams(
        f"{path}: {failure.message}",
        hint="Change the schema as the message says: providers support different parts of JSON Schema.",
        provider=failure.provider,
        errors=[FieldError(path=path, message="the provider refuses it")],
    )
