"""The adapter of OpenAI's chat completions, of other servers that speak them, and of its Responses API.

Owns what a request says, and which models of a list can chat. `openai/which_api.py` decides which of the two APIs a
model uses, `openai/client.py` sends requests, `openai/decoder.py` decodes chat completions, `openai/responses/` is the
other API, and `openai/failures.py` maps errors; `sdk_adapter.py` does the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from archer_ws.core.exceptions import ArcherError, FieldError, ProviderError, Unsupported
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.alternation import alternating
from archer_ws.llm_gateway.asking import without_tools
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import Catalog, Parameter
from archer_ws.llm_gateway.decoding.completion import Decoder
from archer_ws.llm_gateway.decoding.error_bodies import error_details
from archer_ws.llm_gateway.decoding.model_lists import entries_in
from archer_ws.llm_gateway.extras import ALL_EXTRAS, ExtraName
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.native_replay import is_kept, replayable, with_unique_ids
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.openai.client import OPENAI_URL, OpenAIClient, is_openai
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.demanded_fields import DemandedFields
from archer_ws.llm_gateway.openai.failures import failure_from_error, openai_identity
from archer_ws.llm_gateway.openai.logprobs import LogprobsDecoder
from archer_ws.llm_gateway.openai.native import Replayed
from archer_ws.llm_gateway.openai.request import (
    chat_messages,
    effort_fields,
    extra_fields,
    fitting_ids,
    format_fields,
    text_messages,
    tool_fields,
    with_shown_results,
)
from archer_ws.llm_gateway.openai.responses import request as responses
from archer_ws.llm_gateway.openai.responses.decoder import ResponseStreamDecoder
from archer_ws.llm_gateway.openai.which_api import ApiSetting, catalog_for
from archer_ws.llm_gateway.parameters import accepted_parameters, at_least, tell_dropped
from archer_ws.llm_gateway.parts import AcceptedMedia, check_parts, has_media
from archer_ws.llm_gateway.probing import NO_ROUTE
from archer_ws.llm_gateway.resilience.refused_parameters import REFUSAL_STATUSES
from archer_ws.llm_gateway.sdk_adapter import SdkAdapter
from archer_ws.llm_gateway.tool_history import has_calls, is_text_alone, repaired, with_fitting_ids
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.transport.sdk import StatusError
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ModelInfo

log = structlog.get_logger(__name__)

#: Parts of names in OpenAI's list of models that can't chat by this API.
_NOT_CHAT = ("audio", "codex", "deep-research", "image", "instruct", "-pro", "realtime", "transcribe", "tts")
#: The hint for a server without the API that was used.
_WITHOUT_RESPONSES = "For a server without OpenAI's Responses API, set ARCHER_OPENAI_API=chat."


class OpenAIAdapter(SdkAdapter):
    """OpenAI, or a server that speaks its chat API.

    Args:
        api_key: optional, unless the server is OpenAI's own.
        base_url: the API's address with its version (`http://localhost:1234/v1`); OpenAI's own if None.
        default_model: see `SdkAdapter`, as for `timeouts`, `catalog`, `listed_model` and `document_bytes`.
        concurrency: the limit of completions that are read at once.
        carrier: what sends the requests.
        provider_name: the name in responses, errors and the catalog.
        identity: how errors describe the provider; derived from the other arguments if None.
        closes_after_streams: whether the server closes a connection after each stream without announcing it, like
            llama.cpp's: no other request may use the connection.
        default_fields: extra fields of a body; a request's own values take precedence.
        stream_fields: extra fields of a body, whatever the request says.
        omits: parameters that this server is never sent.
        api: which of OpenAI's APIs it uses; see openai/which_api.py.
    """

    takes_extras: frozenset[ExtraName] = ALL_EXTRAS
    _id_prefix = "chatcmpl"
    _client: OpenAIClient

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
        provider_name: str = "openai",
        identity: ProviderIdentity | None = None,
        closes_after_streams: bool = False,
        default_fields: Mapping[str, object] | None = None,
        stream_fields: Mapping[str, object] | None = None,
        omits: frozenset[Parameter] = frozenset(),
        api: ApiSetting = "auto",
        listed_model: str | None = None,
        document_bytes: int = PROVIDER_DOCUMENT_BYTES,
    ) -> None:
        self.provider_name = provider_name
        address = ProviderUrl.of(base_url or OPENAI_URL)
        is_hosted = is_openai(address.url)
        identity = identity or openai_identity(provider_name, address.url, hosted=is_hosted)
        client = OpenAIClient(
            api_key=api_key,
            address=address,
            connect_s=timeouts.connect_s,
            concurrency=concurrency,
            carrier=carrier,
            identity=identity,
            closes_after_streams=closes_after_streams,
            document_bytes=document_bytes,
        )
        super().__init__(
            client,
            identity=identity,
            is_hosted=is_hosted,
            default_model=default_model,
            timeouts=timeouts,
            catalog=catalog_for(catalog, omits=omits, setting=api, is_hosted=is_hosted),
            listed_model=listed_model,
            document_bytes=document_bytes,
        )
        self._fits = fitting_ids(address.url)
        self._demanded = DemandedFields(address.url)
        self._default_fields = default_fields or {}
        self._stream_fields = {**(stream_fields or {}), "stream": True, "stream_options": {"include_usage": True}}

    def _body(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        given = options
        facts = self._facts(model)
        if options.tools and self._is_hosted and facts.tools is False:
            if options.tool_choice != "none":
                raise self._takes_no_tools(model)
            options = without_tools(options)
        is_text = is_text_alone(messages)
        kept: Mapping[int, NativeBlocks] = {}
        if not is_text:
            if has_media(messages):
                check_parts(messages, self._accepted_media(model), options.media)
            messages = repaired(messages)
            kept = replayable(messages, given, self.provider_name, model)
        if facts.api == "responses":
            messages = with_fitting_ids(messages, responses.fits)
            items = responses.input_items(messages, with_unique_ids(kept, messages), options.media)
            return self._response_body(items, model, temperature, max_tokens, options)
        replayed = None
        if not is_text:
            messages = with_shown_results(with_fitting_ids(messages, self._fits))
            replayed = Replayed.of(kept, messages, self._fits)
        if not self._is_hosted:
            # OpenAI's own models accept any order of roles.
            messages = alternating(messages, keeps_names=True)
        told = text_messages(messages) if is_text else chat_messages(messages, replayed, options.media)
        if options.tools or (not is_text and has_calls(messages)):
            told = self._demanded.added(told, model)
        body = {
            **self._default_fields,
            "model": model,
            "messages": told,
            **accepted_parameters(
                facts, provider=self.provider_name, model=model, temperature=temperature, options=options
            ),
            **tool_fields(options),
            **format_fields(options),
            **self._effort_fields(options, model),
            **extra_fields(options.extras),
            **self._stream_fields,
        }
        if max_tokens is not None and "max_tokens" in facts.refuses:
            tell_dropped("max_tokens", provider=self.provider_name, model=model, options=options)
        elif max_tokens is not None:
            body[facts.max_tokens_parameter] = max_tokens
        if "stream_options" in facts.refuses:
            del body["stream_options"]
        return body

    def _response_body(
        self,
        items: Sequence[object],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        """The body for the Responses API, with `items` as its input; that API accepts any order of roles."""
        facts = self._facts(model)
        told = {"provider": self.provider_name, "model": model}
        body = {
            "model": model,
            "input": items,
            **accepted_parameters(facts, **told, temperature=temperature, options=options),
            **responses.reasoning_field(options),
            **responses.tool_fields(options),
            **responses.format_fields(options),
            **responses.fixed_fields(),
        }
        if max_tokens is not None and "max_tokens" in facts.refuses:
            tell_dropped("max_tokens", **told, options=options)
        elif max_tokens is not None:
            least = responses.LEAST_TOKENS
            body["max_output_tokens"] = at_least(least, max_tokens, "max_tokens", **told, options=options)
        return body

    def _decoder(self, options: ChatOptions, body: Mapping[str, Any]) -> Decoder:
        has_format = options.response_format is not None
        if "input" in body:
            return ResponseStreamDecoder(self._document_bytes, has_format=has_format, keeps_native=is_kept(options))
        if options.on_logprobs is not None:
            return LogprobsDecoder(
                options.on_logprobs,
                self._document_bytes,
                others=options.extras.top_logprobs or 0,
                has_format=has_format,
                keeps_native=is_kept(options),
            )
        return ChatStreamDecoder(self._document_bytes, has_format=has_format, keeps_native=is_kept(options))

    async def _asked(self, body: dict[str, Any], model: str, options: ChatOptions) -> StreamedResponse:
        try:
            return await super()._asked(body, model, options)
        except ProviderError as failure:
            changed = self._mended(body, failure, model)
            if changed is None:
                raise
        return await super()._asked(changed, model, options)

    def _mended(self, body: dict[str, Any], failure: ProviderError, model: str) -> dict[str, Any] | None:
        """The request with the changes that its refusal asks for; None if the refusal is about something else."""
        refusal = failure.__cause__
        if "messages" in body:
            whole = self._demanded.learned(refusal, body["messages"], model)
            return None if whole is None else {**body, "messages": whole}
        if not isinstance(refusal, StatusError):
            return None
        if refusal.status in NO_ROUTE:
            failure.hint = f"{failure.hint} {_WITHOUT_RESPONSES}"
        if refusal.status not in REFUSAL_STATUSES or not responses.refuses_reasoning(refusal.body):
            return None
        items = responses.without_reasoning(body["input"])
        if items is not None:
            log.warning("reasoning_left_out", provider=self.provider_name, model=model)
        return None if items is None else {**body, "input": items}

    def _note_end(self, decoder: Decoder, messages: Sequence[ChatMessage], options: ChatOptions, model: str) -> None:
        if isinstance(decoder, ChatStreamDecoder) and decoder.has_reasoning_content:
            self._demanded.note_reasoning(model)
        super()._note_end(decoder, messages, options, model)

    def _effort_fields(self, options: ChatOptions, model: str) -> dict[str, Any]:
        """The fields for the reasoning effort."""
        return effort_fields(options)

    def _failure(
        self,
        error: object,
        model: str | None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ArcherError:
        return failure_from_error(self._identity, error_details(error), status, headers, model)

    def _models(self, data: bytes) -> list[ModelInfo]:
        names = [entry["id"] for entry in entries_in(data)]
        return [self._model(name) for name in names if not self._is_hosted or self._chats(name)]

    def _accepted_media(self, model: str) -> AcceptedMedia:
        taken = super()._accepted_media(model)
        # Only the Responses API reads documents at URLs.
        return replace(taken, reads_document_urls=self._is_hosted and self._facts(model).api == "responses")

    def _takes_no_tools(self, model: str) -> Unsupported:
        what = f"{model} does not take tools by OpenAI's chat completions"
        able = [entry.model for entry in self._catalog.listed(self.provider_name) if entry.tools]
        return Unsupported(
            f"tools: {what}",
            hint=f"Choose a model that does, such as {able[-1]}; or leave `tools` out." if able else None,
            errors=[FieldError(path="tools", message=what)],
        )

    def _chats(self, model: str) -> bool:
        return self._catalog.provider_of(model) == "openai" and not any(part in model for part in _NOT_CHAT)
