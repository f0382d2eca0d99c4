"""An id of its own for each operation that is fuzzed."""

import pytest
from schemathesis.pytest.plugin import SchemathesisFunction


@pytest.hookimpl(tryfirst=True)  # before xdist adds its groups to the ids
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Schemathesis gives the tests of all operations the same id, and a run in parallel takes those for one test."""
    for item in items:
        if isinstance(item, SchemathesisFunction):
            item._nodeid = f"{item.nodeid}[{item.operation_label}]"  # type: ignore[attr-defined]  # a slot
