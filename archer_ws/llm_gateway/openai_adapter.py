"""OpenAI's chat completions, and whatever else speaks them at another base URL.

Owns what a request says, and which of the models in a list chat. `openai/client.py` makes the requests,
`openai/decoder.py` decodes the answers, `openai/failures.py` knows the errors; the rest is `sdk_adapter.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archer_ws.core.exceptions import ArcherError, FieldError, Unsupported
from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.alternation import alternating
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import Catalog, Parameter
from archer_ws.llm_gateway.decoding.error_bodies import said_error
from archer_ws.llm_gateway.decoding.model_lists import entries_in
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.openai.client import OPENAI_URL, OpenAIClient, is_openai
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai.failures import failure_from_error, openai_identity
from archer_ws.llm_gateway.openai.request import (
    chat_messages,
    fitting_ids,
    format_fields,
    tool_fields,
    with_shown_results,
)
from archer_ws.llm_gateway.parameters import accepted_parameters, tell_dropped
from archer_ws.llm_gateway.parts import check_parts
from archer_ws.llm_gateway.sdk_adapter import SdkAdapter
from archer_ws.llm_gateway.tool_history import repaired, with_fitting_ids
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.provider_url import ProviderUrl
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ModelInfo

#: Parts of names in OpenAI's list of models that this API does not serve, or serves for something other than chat.
_NOT_CHAT = ("audio", "codex", "deep-research", "image", "instruct", "-pro", "realtime", "transcribe", "tts")


class OpenAIAdapter(SdkAdapter):
    """OpenAI, or a server that speaks its chat API.

    Args:
        api_key: without one only a `base_url` of one's own can be used.
        base_url: where the API is, with its version (`http://localhost:1234/v1`); OpenAI's own when None.
        default_model: see `SdkAdapter`, as for `timeouts`, `catalog`, `listed_model` and `document_bytes`.
        concurrency: how many answers are read at once.
        carrier: what carries the requests.
        provider_name: the name in answers, errors and the catalog.
        identity: how errors speak of the provider; made from the rest when None.
        closes_after_streams: whether the server closes a connection after each stream without saying so, as
            llama.cpp's does: no other request may be sent on it.
        default_fields: what a body holds beyond OpenAI's fields; a request's own values win.
        stream_fields: what a body holds beyond OpenAI's fields, whatever the request says.
        omits: parameters that this server is never sent.
    """

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
            catalog=catalog,
            listed_model=listed_model,
            document_bytes=document_bytes,
        )
        self._fits = fitting_ids(address.url)
        self._omits = omits
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
        facts = self._catalog.facts(self.provider_name, model).without(self._omits)
        if options.tools and self._is_hosted and facts.tools is False:
            if options.tool_choice != "none":
                raise self._takes_no_tools(model)
            options = replace(options, tools=())
        check_parts(messages, self._taken(model), options.media)
        messages = with_shown_results(with_fitting_ids(repaired(messages), self._fits))
        if not self._is_hosted:
            # OpenAI's own models take any order of roles.
            messages = alternating(messages, keeps_names=True)
        body = {
            **self._default_fields,
            "model": model,
            "messages": chat_messages(messages, options.media),
            **accepted_parameters(
                facts, provider=self.provider_name, model=model, temperature=temperature, options=options
            ),
            **tool_fields(options),
            **format_fields(options),
            **self._stream_fields,
        }
        if max_tokens is not None and "max_tokens" in facts.refuses:
            tell_dropped("max_tokens", provider=self.provider_name, model=model, options=options)
        elif max_tokens is not None:
            body[facts.max_tokens_parameter] = max_tokens
        if "stream_options" in facts.refuses:
            del body["stream_options"]
        return body

    def _decoder(self, options: ChatOptions) -> ChatStreamDecoder:
        return ChatStreamDecoder(self._document_bytes, has_format=options.response_format is not None)

    def _failure(
        self,
        error: object,
        model: str | None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ArcherError:
        return failure_from_error(self._identity, said_error(error), status, headers, model)

    def _models(self, data: bytes) -> list[ModelInfo]:
        names = [entry["id"] for entry in entries_in(data)]
        return [self._model(name) for name in names if not self._is_hosted or self._chats(name)]

    def _takes_no_tools(self, model: str) -> Unsupported:
        what = f"{model} takes no tools by OpenAI's chat completions"
        able = [entry.model for entry in self._catalog.listed(self.provider_name) if entry.tools]
        return Unsupported(
            f"tools: {what}",
            hint=f"Name a model that does, {able[-1]} for example; or leave `tools` out." if able else None,
            errors=[FieldError(path="tools", message=what)],
        )

    def _chats(self, model: str) -> bool:
        return self._catalog.provider_of(model) == "openai" and not any(part in model for part in _NOT_CHAT)
