"""The values that cross the gateway, under the one name that the rest of the program imports them by.

Each is defined in a module of its subject: messages, requests, responses, models, the options of a call. In the models
of the wire, the specification's fields come first and are always sent; the fields that the protocol adds are optional,
and absent where they have no value.
"""

from archer_ws.llm_gateway.chat_message import ASSISTANT, SYSTEM, TOOL, USER, ChatMessage, MessageRole
from archer_ws.llm_gateway.chat_options import ChatOptions, Route
from archer_ws.llm_gateway.chat_request import EMPTY_ONLY_TO_ASK_AGAIN, ChatRequest
from archer_ws.llm_gateway.chat_response import (
    FORMAT_ERRORS,
    FORMAT_VALID,
    MESSAGE_IDS,
    NOT_STORED,
    REFUSED,
    RESET,
    STEPS,
    ChatResponse,
    Refusal,
    StreamChunk,
    TokenUsage,
)
from archer_ws.llm_gateway.chunks import Chunk, TakeChunk
from archer_ws.llm_gateway.enumerations import (
    CancelReason,
    Capability,
    FinishReason,
    FinishReasonText,
    OnBusy,
    OnDisconnect,
    OnToolCall,
    ProgressPhase,
    ReasoningEffort,
    StreamStatus,
)
from archer_ws.llm_gateway.model_info import ModelInfo, ModelLimits, ProviderStatus

__all__ = [
    "ASSISTANT",
    "EMPTY_ONLY_TO_ASK_AGAIN",
    "FORMAT_ERRORS",
    "FORMAT_VALID",
    "MESSAGE_IDS",
    "NOT_STORED",
    "REFUSED",
    "RESET",
    "STEPS",
    "SYSTEM",
    "TOOL",
    "USER",
    "CancelReason",
    "Capability",
    "ChatMessage",
    "ChatOptions",
    "ChatRequest",
    "ChatResponse",
    "Chunk",
    "FinishReason",
    "FinishReasonText",
    "MessageRole",
    "ModelInfo",
    "ModelLimits",
    "OnBusy",
    "OnDisconnect",
    "OnToolCall",
    "ProgressPhase",
    "ProviderStatus",
    "ReasoningEffort",
    "Refusal",
    "Route",
    "StreamChunk",
    "StreamStatus",
    "TakeChunk",
    "TokenUsage",
]
