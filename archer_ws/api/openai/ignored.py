"""The fields of a request that the model does not get, listed in the response header `X-Archer-Ignored`. Pure.

requests.py refuses fields that would change the completion. The others are left out, and listed here for a client that
wonders why a field has no effect.
"""

import re
from collections.abc import Collection

from archer_ws.api.openai.requests import CompletionRequest, demands_call

HEADER = "X-Archer-Ignored"
#: Clients choose field names, so the characters, length and number that go into a header are limited.
_NAME, _NAMES_MAX = re.compile(r"[A-Za-z0-9_.-]{1,64}"), 32


def ignored_header(body: CompletionRequest, refused: Collection[str]) -> dict[str, str]:
    """The header field; empty if every field was used.

    Args:
        body: the request.
        refused: the parameters (in our names) that its model does not accept.
    """
    bound = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    names = [*_not_sent(body), *(bound if name == "max_tokens" else name for name in sorted(refused))]
    told = [name for name in names if _NAME.fullmatch(name)][:_NAMES_MAX]
    return {HEADER: ", ".join(told)} if told else {}


def _not_sent(body: CompletionRequest) -> list[str]:
    """The fields that no provider gets."""
    names = list(body.model_extra or ())
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        names.append("max_tokens")
    if body.stream_options is not None and not body.stream:
        names.append("stream_options")
    if not body.tools and not demands_call(body):
        names += [name for name in ("tool_choice", "parallel_tool_calls") if getattr(body, name) is not None]
    return names
