"""The adapter of Anthropic's Messages API, at its own address or at another server that speaks it.

`anthropic/client.py` sends requests (by the official SDK), `anthropic/request.py` builds them, `anthropic/decoder.py`
decodes responses, and `anthropic/failures.py` maps errors; `sdk_adapter.py` does the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from archer_ws.core.exceptions import ArcherError
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.anthropic.client import ANTHROPIC_URL, AnthropicClient
from archer_ws.llm_gateway.anthropic.decoder import MessageStreamDecoder
from archer_ws.llm_gateway.anthropic.failures import anthropic_identity, failure_from_error
from archer_ws.llm_gateway.anthropic.native import refuses_thoughts, without_thoughts
from archer_ws.llm_gateway.anthropic.request import request_body
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import Catalog
from archer_ws.llm_gateway.decoding.model_lists import entries_in, is_name
from archer_ws.llm_gateway.native_replay import is_kept
from archer_ws.llm_gateway.parts import check_parts, has_media
from archer_ws.llm_gateway.sdk_adapter import SdkAdapter
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.transport.sdk import StatusError
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ModelInfo

log = structlog.get_logger(__name__)


class AnthropicAdapter(SdkAdapter):
    """Anthropic, or a server that speaks its Messages API.

    `chat` and `stream_chat` also raise InvalidParams if the conversation has no user message, or does not begin with
    one; and Unsupported if the model can't be forced to call a tool, or be held to such a format.

    Args:
        api_key: optional, unless the server is Anthropic's own.
        base_url: the API's address without its version (`http://localhost:4000`); Anthropic's own if None.
        default_model: see `SdkAdapter`, as for `timeouts`, `catalog`, `listed_model` and `document_bytes`.
        concurrency: the limit of completions that are read at once.
        carrier: what sends the requests.
    """

    provider_name = "anthropic"
    _id_prefix = "msg"
    _demands_bound = True
    _reads_documents = True

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        default_model: str,
        timeouts: Timeouts,
        concurrency: int,
        carrier: CarrierName = "own",
        catalog: Catalog,
        listed_model: str | None = None,
        document_bytes: int = PROVIDER_DOCUMENT_BYTES,
    ) -> None:
        # OpenAI's base URLs end in /v1, so people write it here, too; this SDK appends it itself.
        address = ProviderUrl.of((base_url or ANTHROPIC_URL).rstrip("/").removesuffix("/v1"))
        is_hosted = address.url == ANTHROPIC_URL
        identity = anthropic_identity(address.url, hosted=is_hosted)
        client = AnthropicClient(
            api_key=api_key,
            address=address,
            connect_s=timeouts.connect_s,
            concurrency=concurrency,
            carrier=carrier,
            identity=identity,
            document_bytes=document_bytes,
        )
        super().__init__(
            client,
            identity=identity,
            is_hosted=is_hosted,
            default_model=default_model,
            timeouts=timeouts,
            catalog=catalog,
            listed_model=listed_model,
            document_bytes=document_bytes,
        )

    def _body(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        if has_media(messages):
            check_parts(messages, self._accepted_media(model), options.media)
        facts = self._catalog.facts(self.provider_name, model)
        body = request_body(
            messages,
            model=model,
            facts=facts,
            temperature=temperature,
            max_tokens=max_tokens,
            options=options,
            streams_arguments=self._is_hosted,
        )
        return {**body, "stream": True}

    async def _sent(self, body: dict[str, Any], *, principal: str) -> StreamedResponse:
        try:
            return await super()._sent(body, principal=principal)
        except StatusError as refusal:
            changed = without_thoughts(body) if refuses_thoughts(refusal.status, refusal.body) else None
            if changed is None:
                raise
        log.warning("reasoning_left_out", provider=self.provider_name, model=body["model"])
        return await super()._sent(changed, principal=principal)

    def _decoder(self, options: ChatOptions, body: Mapping[str, Any]) -> MessageStreamDecoder:
        return MessageStreamDecoder(self._document_bytes, keeps_native=is_kept(options))

    def _failure(
        self,
        error: object,
        model: str | None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ArcherError:
        return failure_from_error(self._identity, error, status, headers, model)

    def _models(self, data: bytes) -> list[ModelInfo]:
        return [self._model_of(entry) for entry in entries_in(data)]

    def _model_of(self, entry: dict[str, Any]) -> ModelInfo:
        title, window = str(entry.get("display_name") or ""), entry.get("max_input_tokens")
        return self._model(
            entry["id"],
            title=title if is_name(title) else None,
            context_window=window if isinstance(window, int) else None,
        )
