"""The archer.v1 methods: params to a manager's call. One module a subject."""

from archer_ws.rpc.methods import chat, sessions, streams, system, tools, watches
from archer_ws.rpc.registry import Registry


def archer_v1() -> Registry:
    """Every method of the protocol (section 3)."""
    return Registry(*system.METHODS, *chat.METHODS, *streams.METHODS, *tools.METHODS, *sessions.METHODS, *watches.METHODS)
