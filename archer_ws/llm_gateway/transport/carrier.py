"""What carries requests to a provider, and brings the answers: the seam between who asks and how bytes travel.

There are two: transport/pool.py over connections of our own, and transport/library.py over httpx's. Both pass the tests
in tests/test_llm_gateway/test_transport_contract.py, and raise the same errors.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, TypeAlias

from archer_ws.llm_gateway.transport.json_body import Body
from archer_ws.llm_gateway.transport.request import RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse

#: Which one carries what goes straight to a provider; through a proxy it is always the library.
CarrierName: TypeAlias = Literal["own", "library"]


class Carrier(ABC):
    """Connections to providers; made and used in one event loop. A redirect is an answer like any other.

    No connection that carried one principal's answer carries another's: what a provider mixes up stays theirs whose it
    was.
    """

    @abstractmethod
    async def ask(self, request: RequestTemplate, body: Body, *, principal: str = "") -> StreamedResponse:
        """The answer to a principal's request, whatever its status; its head has come. The caller closes it.

        A body in pieces is large: others have their turn while it is sent. An answer that comes before all is sent
        ends the sending.

        Cancelling closes the connection. There is no limit on waiting, but for the connection to be made.

        Raises:
            ConnectTimeout, ConnectError: there is no connection.
            NotHttp, DecodingError: what came is no answer, or can't be read.
            OSError: the connection was lost.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close all connections, also those in use; over only when they are gone."""

    async def post(
        self, url: str, body: Body, headers: Mapping[str, str], method: str = "POST", *, principal: str = ""
    ) -> StreamedResponse:
        """`ask`, for a request that is made once.

        Raises:
            NotSendable: no request can be made of it; and as for `ask`.
        """
        return await self.ask(RequestTemplate.of(method, url, headers), body, principal=principal)
