"""Text frames that we parse and make ourselves, compared with those of the library websockets."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from archer_ws.api.socket import DIRECT_SOCKET
from archer_ws.core.limits import MAX_FRAME_BYTES, Limits
from archer_ws.server.server import websocket_protocol
from archer_ws.server.ws_frames import text_frame, whole_text
from tests.fakes.raw_websocket import BINARY, CLOSE, CONT, PING, TEXT, frame

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: The mask and the text ABCDEF of a frame. By itself it would be the whole text message CD\4\4.
LOOKS_LIKE_A_FRAME = bytes.fromhex("81840000c0c64344c4c2")
LENGTHS = st.sampled_from([0, 1, 124, 125, 126, 127, 128, 300])
PAYLOADS = st.binary(max_size=8) | st.text(max_size=8).map(str.encode) | LENGTHS.map(lambda size: b"x" * size)
FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, TEXT, TEXT, BINARY, CONT, PING, CLOSE]),
    PAYLOADS,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0] * 9 + [0x40]),
    masked=st.sampled_from([True] * 9 + [False]),
)


@given(text=st.text(max_size=50) | st.sampled_from(["x" * size for size in (125, 126, 65_535, 65_536)]))
def test_a_frame_is_what_rfc_6455_says(text: str) -> None:
    parsed, rest = parse(text_frame(text), masked=False)
    assert (parsed.opcode, parsed.fin, bytes(parsed.data).decode()) == (Opcode.TEXT, True, text)
    assert rest == bytearray()


@given(data=st.tuples(st.binary(min_size=2, max_size=8), st.binary(max_size=300)).map(b"".join) | FRAMES)
@example(b"\x81\xff" + bytes(131))
@example(b"\x81\xfe\x00\x01" + bytes(4) + b"x")
@example(b"\x81\x81" + bytes(4) + b"\xff")
@example(frame(TEXT, b"a") + b"b")
@example(frame(TEXT, b"x" * 65_535))
def test_what_is_taken_for_a_whole_text_message_is_one(data: bytes) -> None:
    text = whole_text(data)
    if text is not None:
        parsed, rest = parse(data, masked=True)
        assert (parsed.opcode, parsed.fin, parsed.rsv1 or parsed.rsv2 or parsed.rsv3) == (Opcode.TEXT, True, False)
        assert (bytes(parsed.data), rest) == (text.encode(), bytearray())


@given(text=st.text(max_size=50) | LENGTHS.map(lambda size: "ü" * size), mask=st.binary(min_size=4, max_size=4))
def test_a_whole_text_message_is_taken(text: str, mask: bytes) -> None:
    payload = text.encode()
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    head = frame(TEXT, payload)[: -len(payload) - 4] if payload else frame(TEXT)[:-4]
    assert whole_text(head + mask + masked) == text


@given(frames=st.lists(FRAMES, max_size=5), cuts=st.lists(st.integers(0, 1500), max_size=3), takes=st.integers(0, 63))
@example([b"\x81\x86", LOOKS_LIKE_A_FRAME, frame(TEXT, b"after")], [], 63)
@example([frame(TEXT, b"a", fin=False), frame(TEXT, b"b"), frame(CONT, b"c")], [], 63)
@example([frame(TEXT, b"a") + frame(TEXT, b"b") + frame(TEXT, b"c")], [], 0b1100)
@example([frame(BINARY, b"close"), frame(TEXT, b"late")], [], 63)
def test_the_same_messages_arrive_however_they_are_cut_into_reads(
    frames: list[bytes], cuts: list[int], takes: int
) -> None:
    # A read of one byte is never parsed by ourselves.
    data = b"".join(frames)
    places = sorted({*cuts, *(len(b"".join(frames[:count])) for count in range(len(frames) + 1))})
    reads = [data[begin:end] for begin, end in zip(places, [*places[1:], len(data)], strict=True)]
    assert asyncio.run(received(reads, takes)) == asyncio.run(
        received([data[at : at + 1] for at in range(len(data))], 0)
    )


def parse(data: bytes, *, masked: bool) -> tuple[Frame, bytearray]:
    """The frame in it, by the library, and what follows."""
    reader = StreamReader()
    reader.feed_data(data)
    with pytest.raises(StopIteration) as parsed:
        next(Frame.parse(reader.read_exact, mask=masked))
    return parsed.value.value, reader.buffer


class Written(asyncio.Transport):
    """A transport that collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.is_over = False

    def write(self, data: Any) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    def write_eof(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


async def received(reads: list[bytes], takes: int) -> tuple[list[object], bytes]:
    """The messages that an application receives, and what is written on the socket.

    Bit n of `takes` says whether the nth text that is pushed is taken.
    """
    got: list[object] = []
    pushed = 0

    def take(text: str) -> bool:
        nonlocal pushed
        pushed += 1
        if takes >> pushed & 1:
            got.append(text)
        return bool(takes >> pushed & 1)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        scope["extensions"][DIRECT_SOCKET].push_text_to(take)
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message.get("text") or message.get("bytes") or "")
            if message.get("bytes") == b"close":
                await send({"type": "websocket.close", "code": 1000})

    config = Config(
        application, ws=websocket_protocol(Limits()), ws_max_size=MAX_FRAME_BYTES, ws_per_message_deflate=False
    )
    config.load()
    protocol = cast(Any, config.ws_protocol_class)(config=config, server_state=ServerState(), app_state={})
    transport = Written()
    protocol.connection_made(transport)
    for read in (HANDSHAKE, *filter(None, reads)):
        if not transport.is_over:
            protocol.data_received(read)
        for _ in range(4):
            await asyncio.sleep(0)
    protocol.transport.flush()
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
    return got, transport.data.partition(b"\r\n\r\n")[2]
