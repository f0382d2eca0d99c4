"""The fingerprint of a chat request, which tells its repetition from another request with its `stream_id`. Pure."""

from hashlib import blake2b
from typing import Any

import msgspec
from pydantic import BaseModel

from archer_ws.llm_gateway.content import MediaPart
from archer_ws.llm_gateway.types import ChatRequest

#: The fingerprint of a request whose stream's id the server mints: no request repeats it.
NEVER_REPEATED = b""
_NOT_ASKED = {"stream", "stream_id"}


def fingerprint_of(request: ChatRequest) -> bytes:
    """A hash of a request's parameters, without `stream` and `stream_id`.

    It covers the fields that were sent, in any order. So a field that is added to the protocol later does not change
    the hash of a request that lacks it (protocol section 21).
    """
    asked = {name: value for name, value in _sent_fields(request).items() if name not in _NOT_ASKED}
    return blake2b(_AS_SORTED_JSON.encode(asked), digest_size=16).digest()


def _sent_fields(model: BaseModel) -> dict[str, Any]:
    values = model.__dict__
    sent = {name: value for name in model.model_fields_set if (value := values[name]) is not None}
    if "url" in sent and isinstance(model, MediaPart):
        sent["url"] = model.fingerprint  # In place of megabytes.
    return sent


_AS_SORTED_JSON = msgspec.json.Encoder(enc_hook=_sent_fields, order="sorted")
