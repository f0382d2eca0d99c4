"""The adapter of llama.cpp's server in our child process: OpenAI's chat completions, with tools as far as the model
can.

A model whose chat template supports tools gets them as usual. A model whose template does not would not see them, and
respond as if there were none (https://github.com/ggml-org/llama.cpp, docs/function-calling.md; measured). It can only
be forced to call, by a grammar. So can all models, since the server does not enforce `tool_choice`.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from archer_ws.core.exceptions import FieldError, ProviderError, Unsupported
from archer_ws.core.media_types import IMAGES
from archer_ws.llm_gateway.asking import format_alone, without_tools
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import Catalog
from archer_ws.llm_gateway.decoding.completion import Decoder
from archer_ws.llm_gateway.efforts import takes_no_effort
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.format_refusals import of_the_format
from archer_ws.llm_gateway.local.forced_calls import (
    as_call,
    forced_format,
    forced_tools,
    told_in_words,
    with_named_root,
)
from archer_ws.llm_gateway.local.plain_history import in_words, with_instructions
from archer_ws.llm_gateway.local.process import Endpoint
from archer_ws.llm_gateway.local.reversed_bounds import refuse_reversed_bounds
from archer_ws.llm_gateway.openai.request import functions, parameters_of, result_text
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.parts import AcceptedMedia, check_parts, has_media
from archer_ws.llm_gateway.tool_history import repaired
from archer_ws.llm_gateway.tools import Tool
from archer_ws.llm_gateway.transport.carrier import CarrierName
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.transport.sdk import StatusError
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ReasoningEffort, StreamChunk

#: The efforts of a model whose template supports thinking: off, or a limit of tokens.
THINKING_EFFORTS: tuple[ReasoningEffort, ...] = ("none", "low", "medium", "high")
#: Above "medium" there is no limit.
_BUDGET_TOKENS: Mapping[ReasoningEffort, int] = {"low": 1024, "medium": 4096}


class LlamaAdapter(OpenAIAdapter):
    """The server of one child process.

    Args:
        endpoint: its address, and what its model supports.
        model: the name of its model.
        sampling: fields of its API, for requests without them.
        timeouts: see `OpenAIAdapter`, as for `concurrency`, `carrier`, `catalog` and `provider_name`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        model: str,
        sampling: Mapping[str, object],
        timeouts: Timeouts,
        concurrency: int,
        carrier: CarrierName,
        catalog: Catalog,
        provider_name: str,
    ) -> None:
        super().__init__(
            api_key=endpoint.api_key,
            base_url=f"{endpoint.url}/v1",
            default_model=model,
            timeouts=timeouts,
            concurrency=concurrency,
            carrier=carrier,
            catalog=catalog,
            provider_name=provider_name,
            identity=ProviderIdentity(
                name=provider_name,
                address=endpoint.url,
                auth_hint="Restart the server: each start creates a new key.",
                unavailable_hint="Try again: the local model is started again when it is needed.",
                model_hint=f"Use {model}.",
            ),
            closes_after_streams=True,
            default_fields=sampling,
            # It notices a disconnect when it writes, or after a second without output on any stream: so make it write
            # while it reads a prompt, too.
            stream_fields={"return_progress": True},
        )
        self._knows_tools = endpoint.knows_tools
        self._sees = endpoint.sees
        self._knows_thinking = endpoint.knows_thinking

    async def _stream(
        self, body: dict[str, Any], options: ChatOptions, decoder: Decoder, messages: Sequence[ChatMessage]
    ) -> AsyncGenerator[StreamChunk, None]:
        forced = forced_tools(options)
        # What is changed on its way can't be pushed.
        chunks = super()._stream(body, replace(options, on_chunk=None) if forced else options, decoder, messages)
        async with aclosing(chunks), aclosing(as_call(chunks, forced) if forced else chunks) as told:
            async for chunk in told:
                yield chunk

    async def _asked(self, body: dict[str, Any], model: str, options: ChatOptions) -> StreamedResponse:
        try:
            return await super()._asked(body, model, options)
        except ProviderError as failure:
            cause, forced = failure.__cause__, forced_tools(options)
            if not forced or not isinstance(cause, StatusError):
                raise
            # The format was made of these tools' parameters.
            path = f"tools.{options.tools.index(forced[0])}.parameters" if len(forced) == 1 else "tools"
            raise of_the_format(failure, cause.status, cause.body, beside_tools=False, path=path) from cause

    def _body(
        self,
        messages: Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        options: ChatOptions,
    ) -> dict[str, Any]:
        if options.response_format is not None:
            # Only one grammar: with both, the format's would win over a forced call (measured).
            options = format_alone(options, self.provider_name)
        # Before messages are changed: the paths of parts are those of the request.
        if has_media(messages):
            check_parts(messages, self._accepted_media(model), options.media)
        forced = forced_tools(options)
        self._check_grammar(options, forced)
        if not self._knows_tools:
            messages = in_words(repaired(messages), result_text)
            if forced:
                messages = with_instructions(messages, told_in_words(forced))
            elif options.tools and options.tool_choice != "none" and not options.is_later_step:
                raise _knows_none(model)
        without = without_tools(options)
        body = super()._body(
            messages, model, temperature, max_tokens, without if forced or not self._knows_tools else options
        )
        if forced:
            body |= self._forcing(forced)
        if (told := body.get("response_format", {}).get("json_schema")) is not None:
            told["schema"] = with_named_root(told["schema"])
        return body

    def _check_grammar(self, options: ChatOptions, forced: Sequence[Tool]) -> None:
        """Check what the server will make a grammar of: the format's schema, and those of tools that may be called.

        Raises:
            InvalidParams: it could not.
        """
        format_ = options.response_format
        if format_ is not None and format_.json_schema is not None:
            refuse_reversed_bounds(format_.json_schema.schema_, "response_format.json_schema.schema")
        may_be_called = self._knows_tools and options.tool_choice != "none"
        for tool in forced or (options.tools if may_be_called else ()):
            refuse_reversed_bounds(tool.parameters or {}, f"tools.{options.tools.index(tool)}.parameters")

    def _accepted_media(self, model: str) -> AcceptedMedia:
        return AcceptedMedia(
            self.provider_name,
            model,
            # Without a projector the server responds with 500 (measured).
            images=self._sees,
            documents=False,
            # It decodes pictures with stb_image (measured).
            image_types=IMAGES - {"image/webp"},
            images_hint="Run a model for pictures (LOCAL_MODEL_PATH, and its projector in ARCHER_LOCAL_MMPROJ_PATH) or "
            "choose one with `vision` among its capabilities: GET /api/v1/models lists them.",
            documents_hint="Send its text; or use openai or anthropic, which read PDF.",
        )

    def _effort_fields(self, options: ChatOptions, model: str) -> dict[str, Any]:
        effort = options.reasoning_effort
        if effort is None:
            return {}
        if not self._knows_thinking:
            raise takes_no_effort(model)
        budget = _BUDGET_TOKENS.get(effort)
        return {
            "chat_template_kwargs": {"enable_thinking": effort != "none"},
            **({} if budget is None else {"thinking_budget_tokens": budget}),
        }

    def _forcing(self, tools: Sequence[Tool]) -> dict[str, Any]:
        """The request fields that force a call of one of these tools."""
        fields: dict[str, Any] = {"response_format": forced_format({tool.name: parameters_of(tool) for tool in tools})}
        if self._knows_tools:
            # Only for the chat template: the grammar takes precedence over them.
            fields["tools"] = functions(tools)
        return fields


def _knows_none(model: str) -> Unsupported:
    what = f"{model} does not support tools: its chat template has no place for them"
    return Unsupported(
        f"tools: {what}",
        hint='Force a call by `tool_choice` ("required", or one tool by its name), or run a model that supports tools: '
        "archer-ws serve --model hf:Qwen/Qwen2.5-1.5B-Instruct-GGUF:q4_k_m",
        errors=[FieldError(path="tools", message=what)],
    )
