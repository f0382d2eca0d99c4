"""The repository's Markdown pages as tests read them: fenced blocks, headings, links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FENCED = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    #: The comment right before it: `.ci/run` finds the two lines of the README by theirs.
    mark: str | None


def page(path: str) -> str:
    """A page's text, by its path in the repository."""
    return (ROOT / path).read_text("utf-8")


def blocks(path: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(found["language"], found["text"], found["mark"]) for found in _FENCED.finditer(page(path))]


def shown(fragment: str, path: str = "README.md") -> str:
    """The one fenced block of a page that has this text: a test that runs an example takes it by this."""
    (block,) = (block.text for block in blocks(path) if fragment in block.text)
    return block


def prose(path: str) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page(path))


def anchors(path: str) -> set[str]:
    """What `#…` may name in a page, as GitHub makes it from the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


def links(path: str) -> list[str]:
    """Where a page's links and images lead, those to other hosts left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(path)))
    return [link for link in found if "://" not in link]
