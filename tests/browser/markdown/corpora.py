"""Answers of 200 KB of each kind, and texts that were made to cost a renderer its time."""

import random
from collections.abc import Callable, Iterator
from itertools import count

SIZE_CHARS = 200_000
_TEXT = (
    "the sea carries a **small** boat past `harbor.py` and *slowly* on to [the light](https://example.org/light) where "
    "nobody has been since the great storm of that year broke over grey stones and old nets"
)
_WORDS = _TEXT.split()


def _sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(_WORDS) for _ in range(words)).capitalize()


def _filled(
    part: Callable[[random.Random, int], str], head: str = "", tail: str = "", size_chars: int = SIZE_CHARS
) -> str:
    draw = random.Random(1)
    parts, size = [head], len(head)
    for number in count(1):
        parts.append(part(draw, number))
        size += len(parts[-1])
        if size >= size_chars:
            return "".join(parts) + tail
    raise AssertionError


def _code_line(draw: random.Random, number: int) -> str:
    indent = "    " * draw.randint(0, 4)
    return (
        f'{indent}value_{number} = compute(value_{number - 1}, scale={draw.random():.3f})  # "{draw.choice(_WORDS)}"\n'
    )


def _sections() -> Iterator[Callable[[random.Random], str]]:
    yield lambda draw: f"## {_sentence(draw, 5)}\n\n{_sentence(draw, 90)}.\n\n"
    yield lambda draw: "".join(f"- {_sentence(draw, 12)}\n" for _ in range(8)) + "\n"
    yield lambda draw: "```python\n" + "".join(_code_line(draw, number) for number in range(20)) + "```\n\n"
    yield (
        lambda draw: (
            "| a | b | c |\n|---|:-:|--:|\n" + "".join(f"| {_sentence(draw, 2)} | x | {n} |\n" for n in range(9)) + "\n"
        )
    )
    yield lambda draw: f"> {_sentence(draw, 30)}\n>\n> {_sentence(draw, 20)}\n\n"


def large() -> dict[str, str]:
    """By name."""
    sections = list(_sections())
    row = "| {} | {} | {} | {:.4f} |\n"
    table = "| name | what | where | value |\n|:-----|------|:-----:|------:|\n"
    return {
        "prose": _filled(lambda draw, _: f"{_sentence(draw, 80)}.\n\n"),
        "all kinds": _filled(lambda draw, number: sections[number % len(sections)](draw)),
        "one list": _filled(lambda draw, _: f"- {_sentence(draw, 10)}\n"),
        "one list of lists": _filled(lambda draw, number: f"{'  ' * (number % 4)}- {_sentence(draw, 8)}\n"),
        "one list in one item": _filled(lambda draw, _: f"  - {_sentence(draw, 8)}\n", "- first\n"),
        "one table": _filled(
            lambda draw, number: row.format(f"row {number}", _sentence(draw, 4), _sentence(draw, 2), draw.random()),
            table,
        ),
        "one block of code": _filled(_code_line, "```python\n", "```\n"),
        # Longer code gets no colours.
        "one block of code, 95 KB": _filled(_code_line, "```python\n", "```\n", 95_000),
        "one line of code": _filled(lambda draw, number: _code_line(draw, number).strip() + ";", "```js\n", "\n```\n"),
        "one paragraph": _filled(lambda draw, _: _sentence(draw, 60) + ". "),
        "one paragraph of lines": _filled(lambda draw, _: _sentence(draw, 12) + "\n"),
        "one word": "x" * SIZE_CHARS,
        "one quote": _filled(lambda draw, number: f"> {_sentence(draw, 12)}\n" + (">\n" if number % 5 == 0 else "")),
    }
