"""Colours of groups that have none: the same for clusters, for states and in all pictures, without matplotlib."""

import colorsys
from collections.abc import Sequence

# Ten strong colours, then their pale ones: those of Tableau, as matplotlib's `tab20` has them.
_TOLD_APART = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    *("#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#c7c7c7", "#dbdb8d", "#9edae5"),
)


def default_palette(n: int) -> list[str]:
    """Give ``n`` colours as hexadecimal text: easily told apart up to 20, evenly spread over the hues beyond."""
    if n <= len(_TOLD_APART):
        return list(_TOLD_APART[:n])
    colors = (colorsys.hsv_to_rgb(i / n, 0.85, (0.9, 0.65)[i % 2]) for i in range(n))
    return ["#" + "".join(f"{round(255 * x):02x}" for x in color) for color in colors]


def filled(colors: Sequence[str | None]) -> list[str]:
    """Give groups without a colour one that no other group has; grey if there are thousands."""
    candidates = [*default_palette(len(colors)), *default_palette(2 * len(colors))]
    spare = (color for color in dict.fromkeys(candidates) if color not in colors)
    return [next(spare, "#d3d3d3") if color is None else color for color in colors]
