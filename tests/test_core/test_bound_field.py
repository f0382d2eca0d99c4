"""A bound field is one of structlog's own: whoever binds, clears or reads fields there sees it."""

from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from archer_ws.core.bound_field import bound_field


def test_a_bound_field_is_structlogs_own() -> None:
    field = bound_field("request_id")
    assert "request_id" not in get_contextvars()
    field.set("req_1")
    assert get_contextvars()["request_id"] == "req_1"
    bind_contextvars(request_id="req_2")
    assert field.get() == "req_2"
    clear_contextvars()
    assert "request_id" not in get_contextvars()
