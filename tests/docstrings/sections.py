"""The sections of a docstring in NumPy style."""

import re

HEADER = re.compile(r"^(?P<title>[A-Z][A-Za-z ]+)\n(?P<line>-{3,})$", re.MULTILINE)


def sections_of(docstring: str) -> dict[str, str]:
    """Split a docstring into its sections by title; what stands before the first one has the title ``""``."""
    headers = [match for match in HEADER.finditer(docstring) if len(match["title"]) == len(match["line"])]
    starts = [0, *(match.end() for match in headers)]
    ends = [*(match.start() for match in headers), len(docstring)]
    titles = ["", *(match["title"] for match in headers)]
    return {title: docstring[start:end].strip("\n") for title, start, end in zip(titles, starts, ends, strict=True)}


def entries_of(section: str) -> set[str]:
    """Names that a section explains: its lines without indentation, several names parted by commas."""
    lines = [line for line in section.splitlines() if line and not line[0].isspace()]
    return {name.strip().lstrip("*") for line in lines for name in line.partition(" : ")[0].split(",")}
