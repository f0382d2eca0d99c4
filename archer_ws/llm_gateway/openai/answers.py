"""What OpenAI's chat API says at once: whole answers, lists of models. Pure."""

from archer_ws.llm_gateway.decoding.answers import Answer, BrokenOff, Unreadable, folded
from archer_ws.llm_gateway.decoding.model_lists import entries_in
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder, documents_in


def answer_of(data: bytes) -> Answer:
    """A whole answer, decoded; also where the server streamed it though nobody asked for that.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        BrokenOff: the provider gave up on the way.
        Unreadable: it is not an answer.
    """
    decoder = ChatStreamDecoder()
    chunks = [*decoder.feed(data), *decoder.finish()]
    if decoder.fault is not None:
        raise decoder.fault
    if not decoder.is_whole:
        if any(chunk.content or chunk.reasoning for chunk in chunks):
            raise BrokenOff("a stream without its end")
        raise Unreadable("an answer without a message")
    return folded(chunks, decoder.finish_reason, next(iter(documents_in(decoder.last)), None))


def model_entries(data: bytes) -> list[str]:
    """The names in a list of models.

    Raises:
        ErrorSaid: it is an error with a status of 200.
        Unreadable: it is no such list.
    """
    return [entry["id"] for entry in entries_in(data)]
