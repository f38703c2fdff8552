"""What a terminal shows of the bytes that it gets: enough of one for rich's progress bars."""

from __future__ import annotations

import re

_PART = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b\]8;[^\x1b]*\x1b\\|\r|\n|[^\x1b\r\n]")


class Screen:
    """The lines of a terminal without end, and where the cursor is."""

    def __init__(self, width: int = 80) -> None:
        self.width = width
        self.lines = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Takes what a program writes."""
        for part in _PART.finditer(text):
            if part[2]:
                self._control(part[1], part[2])
            elif part[0] == "\r":
                self._column = 0
            elif part[0] == "\n":
                self._row, self._column = self._row + 1, 0
            elif len(part[0]) == 1:
                self._put(part[0])
            while len(self.lines) <= self._row:
                self.lines.append("")

    @property
    def text(self) -> str:
        """The lines, without blanks at their ends."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip()

    def _control(self, numbers: str, letter: str) -> None:
        count = int(numbers or 1) if numbers.isdigit() or not numbers else 1
        if letter == "A":
            self._row = max(self._row - count, 0)
        elif letter == "K":
            line = self.lines[self._row]
            self.lines[self._row] = "" if count == 2 else line[: self._column]

    def _put(self, letter: str) -> None:
        if self._column == self.width:
            self._row, self._column = self._row + 1, 0
            while len(self.lines) <= self._row:
                self.lines.append("")
        line = self.lines[self._row].ljust(self._column)
        self.lines[self._row] = line[: self._column] + letter + line[self._column + 1 :]
        self._column += 1
