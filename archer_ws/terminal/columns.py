"""Several texts side by side, each growing at its own pace. Pure: text in, rows out.

A row is final once every column is past it; the rows after it are shown too, and redrawn as they change.
"""

import unicodedata
from collections.abc import Sequence

#: The text between two columns.
_GAP = " │ "


class Columns:
    """The texts, wrapped.

    Args:
        headings: one per column.
        width: of each column, in cells of the terminal.
    """

    def __init__(self, headings: Sequence[str], width: int) -> None:
        self.width = width
        self._columns = [_Column(width) for _ in headings]
        for column, heading in zip(self._columns, headings, strict=True):
            column.add(heading[: width - 1] + "\n" + "─" * width + "\n")

    def add(self, number: int, text: str) -> None:
        """More text of a column."""
        self._columns[number].add(text)

    def end(self, number: int) -> None:
        """No more text follows in this column."""
        self._columns[number].has_ended = True

    @property
    def final_rows(self) -> int:
        """How many rows cannot change any more."""
        running = [column.final_rows for column in self._columns if not column.has_ended]
        return min(running) if running else self.height

    @property
    def height(self) -> int:
        """How many rows there are."""
        return max(len(column.rows) for column in self._columns)

    def row(self, number: int) -> str:
        """A row over all columns."""
        return _GAP.join(column.padded(number) for column in self._columns).rstrip()


class _Column:
    """One text, wrapped at words where they fit."""

    def __init__(self, width: int) -> None:
        self.rows = [""]
        self.has_ended = False
        self._width = width
        #: The width of the last row, in cells.
        self._used = 0

    @property
    def final_rows(self) -> int:
        # A growing word may still move from the last row to the next.
        return len(self.rows) - 1

    def add(self, text: str) -> None:
        for character in text.expandtabs(4):
            if character == "\n":
                self._begin_row("")
            elif self._used + cells(character) <= self._width:
                self.rows[-1] += character
                self._used += cells(character)
            else:
                self._wrap(character)

    def _wrap(self, character: str) -> None:
        line, _, word = self.rows[-1].rpartition(" ")
        if character == " ":
            self._begin_row("")
        elif line.strip():
            self.rows[-1] = line
            self._begin_row(word + character)
        else:
            self._begin_row(character)

    def _begin_row(self, text: str) -> None:
        self.rows.append(text)
        self._used = cells(text)

    def padded(self, number: int) -> str:
        row = self.rows[number] if number < len(self.rows) else ""
        return row + " " * (self._width - cells(row))


def cells(text: str) -> int:
    """How many cells of a terminal a text occupies (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
