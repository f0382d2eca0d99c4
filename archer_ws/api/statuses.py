"""The HTTP status of an error kind (protocol section 11), for what is no exception any more: a stream's end."""

from archer_ws.core.exceptions import ArcherError


def http_status(kind: str) -> int:
    """The kind's status; 500 for an unknown one."""
    return _STATUS_OF_KIND.get(kind, 500)


def _kinds(base: type[ArcherError]) -> dict[str, int]:
    statuses = {base.kind: base.http_status}
    for child in base.__subclasses__():
        statuses |= _kinds(child)
    return statuses


_STATUS_OF_KIND = _kinds(ArcherError)
