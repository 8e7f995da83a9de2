"""A matrix as colours, with its numbers."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ._figure import INK, text_size


def draw_heat_map(
    ax: Any,
    matrix: Float[np.ndarray, "rows columns"],
    cmap: Any,
    *,
    limits: tuple[float, float | None],
    form: str | None = ".2f",
    fontsize: float | None = None,
) -> Any:
    """Draw a matrix, entries that are not finite empty, and write its numbers as large as there is room.

    Returns what a colour bar is made from.
    """
    image = ax.imshow(matrix, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelcolor=INK)
    if form is not None:
        size = number_size(ax, matrix.shape) if fontsize is None else fontsize
        for (i, j), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                # No "-0.00": it says nothing.
                text = format(0.0 if float(format(value, form)) == 0 else value, form)
                shade = ink_on(image.to_rgba(value))
                ax.text(j, i, text, ha="center", va="center", fontsize=size, color=shade)
    return image


def number_size(ax: Any, shape: tuple[int, int]) -> float:
    """Give the size of a text of about five letters that fits into an entry, at most the usual one."""
    figure = ax.figure.figure
    width, height = figure.get_size_inches() * 72 * ax.get_position().size
    return float(np.clip(min(width / shape[1] / 3.4, height / shape[0] / 1.5), 3.0, text_size(9)))


def ink_on(color: Any) -> str:
    """Give the colour of text that can be read on a colour."""
    return INK if np.dot(color[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
