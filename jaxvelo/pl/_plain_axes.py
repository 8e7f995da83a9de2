"""Axes with units: what they are called, their numbers, frame and legend."""

from typing import Any

from ._figure import INK, text_size


def dress_axes(ax: Any, title: str | None, xlabel: str = "", ylabel: str = "", fontsize: float | None = None) -> None:
    """Write title and names of the axes, and leave of the frame what carries numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("0.6")
    ax.tick_params(color="0.6", labelcolor=INK, labelsize=text_size(9), length=2.5)
    label = {"color": INK, "fontsize": text_size(10)}
    ax.set_xlabel(xlabel, **label)
    ax.set_ylabel(ylabel, **label)
    if title:
        ax.set_title(title, color=INK, fontsize=fontsize or text_size(13))


def legend_look(size: float = 10.0) -> dict[str, Any]:
    """Give how a legend is written."""
    return {"frameon": False, "labelcolor": INK, "fontsize": text_size(size)}
