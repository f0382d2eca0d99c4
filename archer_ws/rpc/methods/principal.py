"""Who is asking."""

from archer_ws.rpc.connection import Connection


def principal_of(connection: Connection) -> str:
    """The connection's principal; the dispatcher lets no method that needs one run without."""
    assert connection.principal is not None
    return connection.principal
