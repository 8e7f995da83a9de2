"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

# Stars and underscores mark nothing between spaces, and underscores nothing within words.
_SPECIAL = re.compile(r"([\\\[\]<>|~`]|\*(?=\S)|(?<=\S)\*|(?<![^\W_])_|_(?![^\W_]))")


def escaped(text: object) -> str:
    """Text that is shown as it is, whatever is in it, but for code in pairs of backticks."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        return _SPECIAL.sub(r"\\\1", str(text))
    return "`".join(part if i % 2 else _SPECIAL.sub(r"\\\1", part) for i, part in enumerate(parts))


def bullets(items: Sequence[str]) -> str:
    """List with a point for each item."""
    return "\n".join(f"- {item}" for item in items)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Table of texts, of which nothing is taken for a mark."""

    def line(cells: Sequence[object]) -> str:
        # A bar within code would end the cell too.
        return "| " + " | ".join(escaped(cell).replace("\\|", "|").replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + " --- |" * len(head), *map(line, rows)])


def picture(name: str, text: str) -> str:
    """Picture in a file of the same folder, with what it shows for those who do not see it."""
    return f"![{escaped(text)}]({quote(name)})"
