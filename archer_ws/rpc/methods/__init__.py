"""The archer.v1 methods: each turns params into a call of the manager. One module per subject."""

from functools import cache

from archer_ws.rpc.methods import chat, sessions, streams, system, tools, watches
from archer_ws.rpc.registry import Registry


@cache
def archer_v1() -> Registry:
    """Every method of the protocol (section 3): always the same registry."""
    subjects = (system, chat, streams, tools, sessions, watches)
    return Registry(*(method for subject in subjects for method in subject.METHODS))
