"""The seam between the code that makes requests to a provider and the connections that carry them.

There are two carriers: transport/pool.py with our own connections, and transport/library.py with httpx's. Both pass the
tests in tests/test_llm_gateway/test_transport_contract.py, and raise the same errors.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, TypeAlias

from archer_ws.llm_gateway.transport.json_body import Body
from archer_ws.llm_gateway.transport.request import RequestTemplate
from archer_ws.llm_gateway.transport.response import StreamedResponse

#: The carrier for requests without a proxy; with a proxy it is always the library.
CarrierName: TypeAlias = Literal["own", "library"]


class Carrier(ABC):
    """Connections to providers; created and used in one event loop. A redirect is a normal response.

    A connection that carried one principal's response never carries another's: if a provider mixes up responses, they
    stay with their principal.
    """

    @abstractmethod
    async def ask(self, request: RequestTemplate, body: Body, *, principal: str = "") -> StreamedResponse:
        """The response to a principal's request, whatever its status, after its head has come. The caller closes it.

        A body in pieces is large: other tasks run while it is sent. If a response comes before all is sent, sending
        ends.

        Cancelling closes the connection. There is no time limit, except for connecting.

        Raises:
            ConnectTimeout, ConnectError: there is no connection.
            NotHttp, DecodingError: the response is not HTTP, or can't be unpacked.
            OSError: the connection was lost.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close all connections, including those in use; returns when they are gone."""

    async def post(
        self, url: str, body: Body, headers: Mapping[str, str], method: str = "POST", *, principal: str = ""
    ) -> StreamedResponse:
        """`ask`, for a request that is made once.

        Raises:
            NotSendable: no request can be built from the arguments; and as for `ask`.
        """
        return await self.ask(RequestTemplate.of(method, url, headers), body, principal=principal)
