"""Reads tokens' probabilities in responses of OpenAI's chat API, if a request asked for them. Pure."""

from math import isfinite
from typing import Any

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.gathered import Gathered
from archer_ws.llm_gateway.extras import ScoredKind, TakeLogprobs
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.documents import choices_of


class LogprobsDecoder(ChatStreamDecoder):
    """Decodes a completion with probabilities: they are handed on before the text that they belong to.

    All chunks take the slow path: the fast one reads nothing but text.

    Args:
        take: receives the probabilities.
        others: how many alternatives of a token are handed on; llama.cpp's server sends twenty if none are asked for.
        max_bytes: see `ChatStreamDecoder`, as for `has_format` and `keeps_native`.
    """

    def __init__(
        self,
        take: TakeLogprobs,
        max_bytes: int = PROVIDER_DOCUMENT_BYTES,
        *,
        others: int = 0,
        has_format: bool = False,
        keeps_native: bool = False,
    ) -> None:
        super().__init__(max_bytes, has_format=has_format, keeps_native=keeps_native)
        self._hand_on = take
        self._others = others

    def _read_plain(self, data: bytes, gathered: Gathered) -> bool:
        return False

    def _take(self, document: dict[str, Any], event: str, data: bytes, gathered: Gathered) -> None:
        super()._take(document, event, data, gathered)
        if tokens := tokens_in(document, self._others):
            self._hand_on(tokens, _kind_of(document))


def tokens_in(document: dict[str, Any], others: int) -> list[dict[str, Any]]:
    """The tokens of a document's first choice with any, each with the fields of OpenAI's API and at most so many
    alternatives."""
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        said = choice.get("logprobs") if isinstance(choice, dict) else None
        content = said.get("content") if isinstance(said, dict) else None
        if isinstance(content, list):
            return [_with_others(each, others) for each in content if _is_token(each)]
    return []


def _kind_of(document: dict[str, Any]) -> ScoredKind:
    """What a document's tokens are of: some servers score all tokens, not only those of the text."""
    for choice in choices_of(document):
        kinds = {is_reasoning for is_reasoning, _ in choice.parts.pieces}
        if kinds:
            return "reasoning" if kinds == {True} else "content"
        if choice.calls:
            return "arguments"
    return "content"


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("token"), str) and _is_number(value.get("logprob"))


def _is_number(value: Any) -> bool:
    # Very large integers can't be converted to float.
    return (type(value) is float and isfinite(value)) or (type(value) is int and abs(value) < 2**53)


def _are_bytes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 256 for each in value)


def _with_others(told: dict[str, Any], count: int) -> dict[str, Any]:
    others = told.get("top_logprobs")
    read = [_token(each) for each in (others if isinstance(others, list) else ()) if _is_token(each)]
    return {**_token(told), "top_logprobs": read[:count]}


def _token(told: dict[str, Any]) -> dict[str, Any]:
    said = told.get("bytes")
    return {"token": told["token"], "logprob": told["logprob"], "bytes": said if _are_bytes(said) else None}
