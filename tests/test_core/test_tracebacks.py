"""Freeing what failed calls had in hand."""

from dataclasses import dataclass

import pytest

from archer_ws.core.tracebacks import forget_tracebacks


@dataclass
class Unhashable(Exception):
    """A dataclass compares by its fields, and so has no hash."""

    what: str


def fail() -> None:
    try:
        raise Unhashable("the first")
    except Unhashable as first:
        try:
            raise ValueError("the second")
        except ValueError as second:
            first.__context__ = second  # a circle, as errors that are raised again can make one
            raise Unhashable("the third") from first


def test_an_error_and_all_that_led_to_it_lose_their_tracebacks() -> None:
    with pytest.raises(Unhashable) as caught:
        fail()
    third = caught.value
    first, second = third.__cause__, third.__context__
    assert first is not None
    assert second is not None
    forget_tracebacks(third)
    assert [each.__traceback__ for each in (third, first, second)] == [None] * 3
