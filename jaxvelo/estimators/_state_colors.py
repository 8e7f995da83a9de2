"""Colours of states as hexadecimal text, without matplotlib: fates are computed where nothing is drawn, too."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxvelo.annotated.palette import default_palette, filled
from jaxvelo.annotated.stored_colors import read_colors, read_each

_HEXADECIMAL = re.compile(r"#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?")


def shades(color: str, n: int) -> list[str]:
    """Give ``n`` colours like one, from darker to lighter and with the hue a little turned."""
    hue, saturation, value = colorsys.rgb_to_hsv(*_numbers(color))
    turns = np.linspace(-0.07, 0.07, n)
    values = np.linspace(max(value - 0.3, 0.2), min(value + 0.3, 1), n)
    return [_hexadecimal(colorsys.hsv_to_rgb((hue + t) % 1, saturation, v)) for t, v in zip(turns, values, strict=True)]


def mean_color(colors: Sequence[str]) -> str:
    """Mix colours in equal parts."""
    return colors[0] if len(colors) == 1 else _hexadecimal(np.mean([_numbers(color) for color in colors], axis=0))


def text_color(background: str) -> str:
    """Give black or white, whichever reads better on a background (luminance of ITU-R BT.709)."""
    return "#000000" if np.dot(_numbers(background), (0.2126, 0.7152, 0.0722)) > 0.45 else "#ffffff"


def colors_of_groups(stored: Any, names: Sequence[str]) -> list[str]:
    """Read the colours of groups, whatever form a file has them in; default ones where there are none."""
    if stored is None or not len(names):
        return default_palette(len(names))
    try:
        read = read_colors(stored, names)[0]
    except ImportError:  # without matplotlib only what is hexadecimal already
        entries = [str(entry) for entry in np.ravel(stored)]
        read = [entry if _HEXADECIMAL.fullmatch(entry) else None for entry in entries]
        read = read if len(read) == len(names) else [None] * len(names)
    return filled(read)


def given_colors(colors: Iterable[Any], n: int) -> list[str]:
    """Read colours that a user gives, one for each of ``n`` states.

    Raises
    ------
    ValueError
        If there are not as many, or some are no colours.
    """
    given = list(colors)
    if len(given) != n:
        raise ValueError(f"Expected {n} colours, found {len(given)}. Give one for each name.")
    if all(isinstance(color, str) and _HEXADECIMAL.fullmatch(color) for color in given):
        return [str(color) for color in given]
    read = read_each(given)
    wrong = [color for color, known in zip(given, read, strict=True) if known is None]
    if wrong:
        raise ValueError(f"Expected colours, found {wrong}. Give names or hexadecimal text.")
    return [color for color in read if color is not None]


def _numbers(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hexadecimal(numbers: Iterable[float]) -> str:
    return "#" + "".join(f"{round(255 * float(number)):02x}" for number in numbers)
