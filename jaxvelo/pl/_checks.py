"""Checks of arguments that concern drawing."""

from typing import Any

import numpy as np

from jaxvelo.configuration import is_positive, settings


def check_positive(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is a positive number, or :obj:`None`."""
    if value is not None and not is_positive(value):
        raise ValueError(f"Expected `{name}` to be positive and finite, found `{value!r}`.")


def check_opacity(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is a number from 0 to 1."""
    if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise ValueError(f"Expected `{name}` to be an opacity from 0 to 1, found `{value!r}`.")


def checked_cmap(name: str, cmap: Any) -> Any:
    """Give a colour map: of matplotlib by its name, as it is, or made from a list of colours.

    :obj:`None` stands for that of ``settings.set_figure_params``.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Colormap, LinearSegmentedColormap, is_color_like

    cmap = settings.figure_params.color_map if cmap is None else cmap
    if isinstance(cmap, Colormap):
        return cmap
    if isinstance(cmap, str) and cmap in list(colormaps):
        return colormaps[cmap]
    if isinstance(cmap, list | tuple) and len(cmap) > 1 and all(map(is_color_like, cmap)):
        return LinearSegmentedColormap.from_list("listed", list(cmap))
    raise ValueError(
        f"Expected `{name}` to be a colour map of matplotlib, such as 'viridis', or a list of colours, found "
        f"`{cmap!r}`."
    )


def check_color(name: str, color: Any) -> None:
    """Raise a ValueError unless matplotlib knows the colour."""
    from matplotlib.colors import is_color_like

    if not is_color_like(color):
        raise ValueError(f"Expected `{name}` to be a colour, such as 'red' or '#ff0000', found `{color!r}`.")
