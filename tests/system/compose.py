"""Reads docker-compose.yml: the part of YAML that it is written in, and nothing beyond that.

Mappings and lists by indentation, plain scalars, flow lists of plain scalars, `{}`, literal blocks
(`|`) and comments.  Whatever else stands in the file is an error, so that nothing is misread.
"""

from __future__ import annotations

import re

Value = str | list["Value"] | dict[str, "Value"]

KEY = re.compile(r"([A-Za-z0-9_-]+):(?: +(.+))?")
# As a plain scalar these would begin something that is not read here.
SPECIAL = tuple("&*!>%@`'\"{[?")


class Reader:
    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.position = 0

    def read(self) -> Value:
        value = self.block(0)
        self.skip()
        assert self.position == len(self.lines), self.where()
        return value

    def where(self) -> str:
        return f"line {self.position + 1}: {self.lines[self.position]!r}"

    def skip(self) -> None:
        """Pass over blank lines and comments."""
        while self.position < len(self.lines):
            line = self.lines[self.position].strip()
            if line and not line.startswith("#"):
                return
            self.position += 1

    def indentation(self) -> int:
        """Return the indentation of the next line, -1 at the end."""
        self.skip()
        if self.position == len(self.lines):
            return -1
        line = self.lines[self.position]
        return len(line) - len(line.lstrip(" "))

    def block(self, least: int) -> Value:
        indentation = self.indentation()
        assert indentation >= least, self.where()
        if self.lines[self.position].lstrip().startswith("- "):
            return self.items(indentation)
        return self.mapping(indentation)

    def items(self, indentation: int) -> list[Value]:
        found: list[Value] = []
        while self.indentation() == indentation:
            line = self.lines[self.position].strip()
            if not line.startswith("- "):
                break
            self.position += 1
            found.append(self.scalar(line[2:].strip(), indentation))
        return found

    def mapping(self, indentation: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while self.indentation() == indentation:
            match = KEY.fullmatch(self.lines[self.position].strip())
            assert match, self.where()
            key, value = match[1], match[2]
            assert key not in found, self.where()
            self.position += 1
            found[key] = self.block(indentation + 1) if value is None else self.scalar(value, indentation)
        return found

    def scalar(self, text: str, indentation: int) -> Value:
        if text == "|":
            return self.literal(indentation)
        if text == "{}":
            return {}
        if text.startswith("[") and text.endswith("]"):
            return [self.scalar(part.strip(), indentation) for part in text[1:-1].split(",")]
        assert not text.startswith(SPECIAL), text
        assert " #" not in text, text
        assert ": " not in text, text
        return text

    def literal(self, indentation: int) -> str:
        lines: list[str] = []
        while self.position < len(self.lines):
            line = self.lines[self.position]
            if line.strip() and len(line) - len(line.lstrip(" ")) <= indentation:
                break
            lines.append(line)
            self.position += 1
        margin = min(len(line) - len(line.lstrip(" ")) for line in lines if line.strip())
        return "\n".join(line[margin:] for line in lines).rstrip("\n") + "\n"
