"""The suite itself."""

from collections import Counter

import pytest


def test_every_test_has_an_id_of_its_own(request: pytest.FixtureRequest) -> None:
    """Of tests with one id, a run in parallel takes only one."""
    ids = Counter(item.nodeid for item in request.session.items)
    assert [name for name, times in ids.items() if times > 1] == []
