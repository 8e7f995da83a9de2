"""Which colour a cell gets: from a column of ``obs``, a gene, or one colour for all."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.annotations import layer_names
from jaxvelo.configuration import logger

from ._figure import pyplot

if TYPE_CHECKING:
    from anndata import AnnData

MISSING = "#d3d3d3"
Palette = Mapping[Any, Any] | Sequence[Any] | str | None


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Cells in groups: ``codes`` is -1 where the group is missing; one hexadecimal colour for each name."""

    key: str
    codes: Int[np.ndarray, " cells"]
    names: list[str]
    colors: list[str]

    def rgba(self) -> Float[np.ndarray, "cells 4"]:
        """Give every cell's colour."""
        from matplotlib.colors import to_rgba_array

        return to_rgba_array([*self.colors, MISSING])[self.codes]  # -1 takes the last


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Cells with a number each, not finite where it is missing."""

    key: str
    values: Float[np.ndarray, " cells"]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """All cells in one colour."""

    color: Any


def cell_colors(
    adata: "AnnData", color: Any, palette: Palette = None, layer: str | None = None
) -> Categorical | Continuous | Uniform:
    """Find out what ``color`` means.

    Parameters
    ----------
    adata
        The cells.
    color
        A column of ``obs``, a gene, or a colour. :obj:`None` stands for ``obs["clusters"]``, or the first categorical
        column, or grey if there is none.
    palette
        Colours of the groups: a mapping from their names, a sequence in their order, or the name of one of matplotlib's
        colour maps. By default ``uns[f"{color}_colors"]`` if there is one colour for each group, else a built-in one.
    layer
        Layer that a gene's values are taken from; ``X`` by default.

    Raises
    ------
    KeyError
        If ``color`` is none of them, or ``layer`` does not exist.
    ValueError
        If ``palette`` has too few colours.
    """
    pyplot()  # says how to install matplotlib before anything else asks for it
    import pandas as pd
    from matplotlib.colors import is_color_like

    if color is None:
        categorical = [key for key in adata.obs if isinstance(adata.obs[key].dtype, pd.CategoricalDtype)]
        color = "clusters" if "clusters" in adata.obs else next(iter(categorical), "grey")
    if isinstance(color, str) and color in adata.obs:
        column = adata.obs[color]
        if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            return Continuous(color, column.to_numpy(dtype=float, na_value=np.nan))
        return grouped(adata, color, palette)
    if isinstance(color, str) and color in adata.var_names:
        if layer is not None and layer not in adata.layers:
            raise KeyError(f"Expected `layer` to be one of {layer_names(adata)}, found `{layer!r}`.")
        matrix = adata.X if layer is None else adata.layers[layer]
        if matrix is None:
            raise KeyError(
                f"Expected expression in `adata.X` to colour by gene `{color!r}`, found none. Name a `layer`."
            )
        values = matrix[:, adata.var_names.get_loc(color)]
        values = values.toarray() if sp.issparse(values) else np.asarray(values)
        return Continuous(color, np.ravel(values).astype(float))
    if is_color_like(color):
        return Uniform(color)
    raise KeyError(
        f"Expected `color` to be a column of `adata.obs`, a gene in `adata.var_names` or a colour, found `{color!r}`. "
        f"Columns are {list(adata.obs)}."
    )


def grouped(adata: "AnnData", key: str, palette: Palette = None) -> Categorical:
    """Read a column of ``obs`` as groups with colours; see :func:`cell_colors`."""
    pyplot()
    import pandas as pd

    if key not in adata.obs:
        raise KeyError(f"Expected `adata.obs[{key!r}]` with the cells' groups, found columns {list(adata.obs)}.")
    column = adata.obs[key]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("object").where(column.notna()).astype("category")
    names = [str(name) for name in column.cat.categories]
    return Categorical(key, column.cat.codes.to_numpy().astype(int), names, _group_colors(adata, key, names, palette))


def _group_colors(adata: "AnnData", key: str, names: list[str], palette: Palette) -> list[str]:
    """Give one hexadecimal colour for each group."""
    from matplotlib import colormaps
    from matplotlib.colors import is_color_like, to_hex

    if palette is None:
        stored = adata.uns.get(f"{key}_colors")
        if stored is None:
            return default_palette(len(names))
        stored = [str(color) for color in np.ravel(np.asarray(stored))]
        if len(stored) >= len(names) and all(map(is_color_like, stored)):
            return [to_hex(color) for color in stored[: len(names)]]
        logger.warning(
            "`adata.uns['%s_colors']` does not hold %d colours for the groups of `adata.obs['%s']`; using others",
            key,
            len(names),
            key,
        )
        return default_palette(len(names))
    if isinstance(palette, str):
        if palette not in colormaps:
            raise ValueError(f"Expected `palette` to be colours or a colour map of matplotlib, found `{palette!r}`.")
        cmap = colormaps[palette]
        listed = getattr(cmap, "colors", None)
        if listed is not None and len(names) <= len(listed) <= 20:
            return [to_hex(color) for color in listed[: len(names)]]
        return [to_hex(cmap(x)) for x in np.linspace(0.0, 1.0, len(names))]
    if isinstance(palette, Mapping):
        palette = {str(name): color for name, color in palette.items()}
        if missing := [name for name in names if name not in palette]:
            raise ValueError(
                f"Expected `palette` to have a colour for each group of `{key!r}`, found none for {missing}."
            )
        palette = [palette[name] for name in names]
    if len(palette) < len(names) or not all(map(is_color_like, palette)):
        raise ValueError(f"Expected `palette` to hold {len(names)} colours for `{key!r}`, found `{list(palette)!r}`.")
    return [to_hex(color) for color in palette[: len(names)]]


def default_palette(n: int) -> list[str]:
    """Give ``n`` colours that are easily told apart (up to 20), or evenly spread ones."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if n <= 20:
        strong_first = colormaps["tab20"]([*range(0, 20, 2), *range(1, 20, 2)])
        return [to_hex(color) for color in strong_first[:n]]
    return [to_hex(colormaps["gist_rainbow"](x)) for x in np.linspace(0.0, 1.0, n)]
