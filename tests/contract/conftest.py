"""An id of its own for each operation that is fuzzed."""

import dataclasses

import pytest
from schemathesis.pytest.plugin import SchemathesisFunction


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Schemathesis gives the tests of all operations the same id, and a run in parallel takes those for one test."""
    for item in items:
        if isinstance(item, SchemathesisFunction):
            item._id = dataclasses.replace(item._id, params=item.operation_label)
