"""The table of a connection's requests: names, ids in use, and room."""

import pytest

from archer_ws.core.exceptions import Overloaded
from archer_ws.rpc.requests import Requests


def test_every_request_has_a_name_of_its_own_that_begins_with_the_connection() -> None:
    requests = Requests("con_1", most=2)
    assert [requests.next_name(), requests.next_name()] == ["con_1.1", "con_1.2"]
    assert requests.name == "con_1.2"


def test_an_id_is_in_use_until_its_answer_and_no_id_never_is() -> None:
    requests = Requests("con_1", most=2)
    requests.begin("a")
    requests.begin(None)
    assert requests.is_in_use("a")
    assert requests.ids == {"a"}
    assert not requests.is_in_use(None)
    requests.end("a")
    assert not requests.is_in_use("a")


def test_requests_without_an_id_take_room_too() -> None:
    requests = Requests("con_1", most=2)
    requests.begin(1)
    requests.check_room()
    requests.begin(None)
    with pytest.raises(Overloaded, match="2 requests of this connection"):
        requests.check_room()
    requests.end(None)
    requests.check_room()
    assert requests.running == 1
