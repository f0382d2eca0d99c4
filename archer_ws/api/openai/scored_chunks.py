"""The chunks of a stream whose tokens have log probabilities. Pure: reads the stream's request once."""

from archer_ws.api.openai.chunks import ChunkEncoder
from archer_ws.sessions.streams.events import Delta, Event
from archer_ws.sessions.streams.logprobs import TokenLogprobs
from archer_ws.sessions.streams.stream import Stream


def encoder_of(stream: Stream, *, include_usage: bool) -> ChunkEncoder:
    """The encoder for the chunks of this stream."""
    if stream.logprobs is None:
        return ChunkEncoder(stream, include_usage=include_usage)
    return ScoredChunkEncoder(stream, stream.logprobs, include_usage=include_usage)


class ScoredChunkEncoder(ChunkEncoder):
    """The chunks of a stream whose tokens have log probabilities, each with the text that they belong to. Those of
    calls come last."""

    def __init__(self, stream: Stream, logprobs: TokenLogprobs, *, include_usage: bool) -> None:
        super().__init__(stream, include_usage=include_usage)
        self._logprobs = logprobs

    def __call__(self, event: Event) -> bytes:
        if isinstance(event, Delta) and event.call is None and (tokens := self._logprobs.take(event.seq, event.kind)):
            text = event.text.decode()
            if event.kind == "content":
                between = "" if self._has_text_of_step else self._begin_text()
                return self._chunk({"content": between + text}, None, tokens)
            return self._chunk({"reasoning_content": text}, None, tokens)
        return super().__call__(event)

    def _last(self, finish_reason: str) -> bytes:
        return self._chunk({}, finish_reason, self._logprobs.rest())
