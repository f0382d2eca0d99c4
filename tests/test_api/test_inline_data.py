"""Data URLs found in JSON while it comes, wherever it is cut: what is taken and what is left are the whole again."""

import base64
import json
import random
from typing import Any

import pytest

from archer_ws.api.http.inline_data import (
    STAYS_CHARS,
    TAKEN_MAX,
    BodyPiece,
    Data,
    DataBegun,
    DataEnded,
    GivenBack,
    InlineData,
    Json,
)

HEADER = "data:image/png;base64,"


class Reading:
    """One body, read in pieces."""

    def __init__(self, body: bytes, cuts: list[int]) -> None:
        self.json = b""
        self.files: dict[str, bytes] = {}
        self._stays, self._data = "", b""
        scan = InlineData()
        for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            self._take(scan.feed(body[begin:end]))
        self._take(scan.end())

    def _take(self, found: list[BodyPiece]) -> None:
        for each in found:
            match each:
                case Json(text):
                    self.json += text
                case DataBegun(_, stays):
                    self._stays, self._data = stays, b""
                case Data(data):
                    self._data += data
                case DataEnded(stays):
                    assert stays.startswith(self._stays)
                    assert stays not in self.files
                    self.files[stays] = self._data
                case GivenBack():
                    self.json += base64.b64encode(self._data)[len(self._stays) :]

    @property
    def value(self) -> Any:
        """The JSON with its data again."""
        return self._whole(json.loads(self.json))

    def _whole(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._whole(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._whole(inner) for inner in value]
        if isinstance(value, str) and (data := self.files.get(value.removeprefix(HEADER))) is not None:
            return HEADER + base64.b64encode(data).decode()
        return value


def url(size: int, chance: random.Random) -> str:
    return HEADER + base64.b64encode(chance.randbytes(size)).decode()


def some_text(chance: random.Random) -> str:
    size = chance.choice([10, 3072, 3073, 3074, 3100, 5000, 20_001])
    tails = [" what?", '"x', "\\", "\\\\/", "\n", "é", "=", "A", "==", "-", "\\u002b", "\\" * 3 + '"data:a/b;base64,']
    match chance.randrange(5):
        case 0:
            return url(size, chance)
        case 1:
            return url(size, chance) + chance.choice(tails) + chance.choice(["", "AAAA" * 2000])
        case 2:
            return "\\" * chance.randrange(6) + f'"{HEADER}' + "QUJD" * chance.randrange(4000)
        case 3:
            return "data:;base64," + "\\" * chance.randrange(5) + '"'
    return "text " * chance.randrange(100)


def written(value: Any, chance: random.Random) -> bytes:
    """JSON as different encoders write it."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    match chance.randrange(3):
        case 0:
            text = text.replace("/", "\\/")
        case 1:
            text = text.replace("+", "\\u002B")
    return text.encode()


@pytest.mark.parametrize("cuts", [0, 3, 30, 1000])
def test_whatever_a_body_holds_and_wherever_it_is_cut_nothing_of_it_changes(cuts: int) -> None:
    taken = 0
    for seed in range(60 if cuts == 1000 else 300):
        chance = random.Random(seed)
        value = [{"url": some_text(chance), "text": some_text(chance)} for _ in range(chance.randrange(1, 5))]
        body = written(value, chance)
        reading = Reading(body, sorted(chance.sample(range(len(body)), min(len(body), cuts))))
        assert reading.value == value, seed
        taken += len(reading.files)
    assert taken > 5


def test_what_stays_of_long_data_is_short_and_tells_which_it_was() -> None:
    chance = random.Random(1)
    value = {"same": [url(3_000_000, chance)] * 3}
    body = json.dumps(value).encode()
    reading = Reading(body, list(range(65_536, len(body), 65_536)))
    assert len(reading.json) < 4 * STAYS_CHARS
    assert len(reading.files) == 3
    assert reading.value == value


def test_data_that_another_begins_with_is_not_taken_for_it() -> None:
    long = base64.b64encode(b"abc" * 40_000).decode()
    value = [HEADER + each for each in (long, long[:STAYS_CHARS], long[: STAYS_CHARS + 4], long[: STAYS_CHARS - 4])]
    for ordered in (value, value[::-1]):
        reading = Reading(json.dumps(ordered).encode(), [])
        assert reading.value == ordered
        assert len(reading.files) == 1


def test_no_more_is_taken_out_than_a_request_has_parts() -> None:
    value = [url(6000, random.Random(1))] * (TAKEN_MAX + 10)
    reading = Reading(json.dumps(value).encode(), [])
    assert len(reading.files) == TAKEN_MAX
    assert reading.value == value


def test_data_whose_last_bits_would_be_lost_stays_text() -> None:
    data = base64.b64encode(b"a" * 10_000).decode()
    assert data.endswith("YQ==")
    value = [HEADER + data.removesuffix("YQ==") + "YR=="]
    reading = Reading(json.dumps(value).encode(), [])
    assert (reading.value, reading.files) == (value, {})


@pytest.mark.parametrize("end", [3, 10, 4000, 9000])
def test_a_body_that_breaks_off_within_data_is_what_came(end: int) -> None:
    body = json.dumps([url(30_000, random.Random(1))]).encode()[:-end]
    reading = Reading(body, [5000])
    assert (reading.json, reading.files) == (body, {})
