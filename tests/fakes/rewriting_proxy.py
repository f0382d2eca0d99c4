"""An HTTP proxy on loopback, as it stands before servers: it chooses one for each request, and changes its head."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.fakes.connections import Connections

_UPGRADES = b"connection: upgrade"


@dataclass
class Head:
    """A request's head; `fields` are its lines."""

    method: bytes
    path: bytes
    fields: list[bytes]

    def drop(self, *names: bytes) -> None:
        """Take out these fields, given in lower case."""
        self.fields = [field for field in self.fields if field.split(b":")[0].lower() not in names]


#: Changes the head as it should be passed on, and returns the URL of the server that gets it.
Rewrite = Callable[[Head], str]


@asynccontextmanager
async def rewriting_proxy(rewrite: Rewrite) -> AsyncIterator[str]:
    """The URL of a running proxy. It passes upgrades on unless `rewrite` drops them."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A browser opens connections in advance, and then none of this comes.
        first, *fields = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        method, path, version = first.split(b" ")
        head = Head(method, path, fields)
        host, _, port = rewrite(head).removeprefix("http://").rpartition(":")
        if not any(field.lower() == _UPGRADES for field in head.fields):
            head.drop(b"connection")
            head.fields.append(b"Connection: close")
        answers, requests = await asyncio.open_connection(host, int(port))
        requests.write(b"\r\n".join([b" ".join([head.method, head.path, version]), *head.fields, b"", b""]))
        await asyncio.gather(pass_on(reader, requests), pass_on(answers, writer), return_exceptions=True)

    connections = Connections(serve)
    listening = await asyncio.start_server(connections.accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await connections.end()
