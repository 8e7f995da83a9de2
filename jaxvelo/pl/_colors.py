"""Which colour a cell gets: from a column of ``obs``, a gene, values or colours of the user, or one colour for all."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import is_number, listed
from jaxvelo.annotated.clusters import chosen_groups
from jaxvelo.annotated.entries import layer_names
from jaxvelo.annotated.groups import as_groups, coded, group_codes
from jaxvelo.annotated.names import find_name, is_name, text_of
from jaxvelo.annotated.order import in_order
from jaxvelo.annotated.palette import default_palette, filled
from jaxvelo.annotated.stored_colors import read_colors, read_each, stored_colors
from jaxvelo.configuration import logger

from ._figure import pyplot

if TYPE_CHECKING:
    from anndata import AnnData

MISSING = "#d3d3d3"
MOST_GROUPS = 120  # more names than this cannot be read in one picture
Palette = Mapping[Any, Any] | Sequence[Any] | str | None


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Cells in groups: ``codes`` is -1 where the group is missing; one hexadecimal colour for each name."""

    key: str
    codes: Int[np.ndarray, " cells"]
    names: list[str]
    colors: list[str]
    missing: str = "NA"  # what a legend calls the cells of no group; nothing if empty
    strengths: Float[np.ndarray, " cells"] | None = None  # from 0, grey, to 1, the group's colour; 1 if not given

    def rgba(self) -> Float[np.ndarray, "cells 4"]:
        """Give every cell's colour."""
        from matplotlib.colors import to_rgba_array

        shades = to_rgba_array([*self.colors, MISSING])
        grey, own = shades[-1], shades[self.codes]  # -1 takes the last
        return own if self.strengths is None else grey + self.strengths[:, None] * (own - grey)

    def depths(self) -> Float[np.ndarray, " cells"]:
        """Give which cells are drawn on top: the stronger their colour, the higher."""
        return np.where(self.codes >= 0, 1.0 if self.strengths is None else self.strengths, -1.0)

    def typical_codes(self) -> Int[np.ndarray, " cells"]:
        """Give the groups of the cells that show their full colour, where a name says most; -1 for paler ones."""
        if self.strengths is None:
            return self.codes
        strongest = np.zeros(len(self.names) + 1)
        np.maximum.at(strongest, self.codes, self.strengths)
        return np.where(self.strengths >= 0.999 * strongest[self.codes], self.codes, -1)

    def counts(self) -> Int[np.ndarray, " names"]:
        """Give the number of cells of each group."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Cells with a number each, not finite where it is missing."""

    key: str
    values: Float[np.ndarray, " cells"]
    limits: tuple[float, float] | None = None  # numbers at the ends of the colour map; smallest and largest by default


@dataclasses.dataclass(frozen=True)
class PerCell:
    """Cells with a colour each, that the user gave."""

    colors: Float[np.ndarray, "cells 4"]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """All cells in one colour."""

    color: Any


Colors = Categorical | Continuous | PerCell | Uniform


def cell_colors(
    adata: "AnnData",
    color: Any,
    palette: Palette = None,
    layer: str | None = None,
    use_raw: bool | None = None,
    groups: Any = None,
) -> Colors:
    """Find out what ``color`` means.

    Parameters
    ----------
    adata
        The cells.
    color
        A column of ``obs``, a gene, a colour, or a value or colour for each cell; a name that is several of these means
        the first. :obj:`None` stands for ``obs["clusters"]``, or the first column that is a clustering, or grey.
    palette
        Colours of the groups: a mapping from their names, a sequence in their order, or the name of one of matplotlib's
        colour maps. By default ``uns[f"{color}_colors"]`` as far as there is one colour for each group.
    layer
        Layer that a gene's values are taken from; ``X`` by default.
    use_raw
        Whether a gene is taken from ``raw``; by default if it is there only.
    groups
        Groups to show; cells of others are grey.

    Raises
    ------
    KeyError
        If ``color`` is none of them, or ``layer`` does not exist.
    ValueError
        If a name is there more than once, there is not one value for each cell, ``palette`` has too few colours, or
        none of ``groups`` exists.
    """
    pyplot()  # says how to install matplotlib before anything else asks for it
    from matplotlib.colors import is_color_like

    if color is None:
        color = default_color(adata)
    if isinstance(color, str) and color == "none":  # in scripts for CellRank: without colours
        return Uniform(MISSING)
    if not is_name(color):
        if is_color_like(color) and len(color) != adata.n_obs:
            return Uniform(tuple(color))
        return _of_each_cell(adata, color, palette, groups)
    column = find_name(adata.obs.columns, color, "adata.obs.columns", "color")
    if column is not None:
        if color in adata.var_names:
            logger.warning(
                "`%s` is a column of `adata.obs` and a gene: drawing the column. For the gene pass its values, as "
                "`color=adata[:, %r].X`",
                color,
                color,
            )
        return _of_column(adata, str(color), adata.obs.iloc[:, column], palette, groups)
    values = gene_values(adata, color, layer, use_raw)
    if values is not None:
        return Continuous(str(color), values)
    if is_color_like(color):
        return Uniform(color)
    raise KeyError(
        f"Expected `color` to be a column of `adata.obs`, a gene in `adata.var_names`{_or_raw(adata)}, a colour, or "
        f"one value or colour for each cell, found `{color!r}`. Columns are {listed(adata.obs)}."
    )


def default_color(adata: "AnnData") -> str:
    """Give ``"clusters"``, or the first column that is a clustering, or grey.

    A column with hardly fewer levels than cells, such as barcodes, is none.
    """
    columns = adata.obs.loc[:, ~adata.obs.columns.duplicated(keep=False)]
    if "clusters" in adata.obs and ("clusters" not in columns or columns["clusters"].notna().any()):
        return "clusters"
    for key, column in columns.items():
        if isinstance(column.dtype, pd.CategoricalDtype) and 0 < column.nunique() <= min(MOST_GROUPS, adata.n_obs // 2):
            return str(key)
    return "grey"


def grouped(adata: "AnnData", key: str, palette: Palette = None) -> Categorical:
    """Read a column of ``obs`` as groups with colours; see :func:`cell_colors`."""
    pyplot()
    names, codes = group_codes(adata, key)
    return Categorical(str(key), codes, names, group_colors(adata, str(key), names, palette))


def _of_column(
    adata: "AnnData", key: str, column: pd.Series, palette: Palette, groups: Any
) -> Categorical | Continuous:
    """Read a column, or values of the user, as numbers or as groups."""
    if column.dtype == object and column.notna().any() and all(map(is_number, column.dropna())):
        column = column.where(column.notna(), np.nan).astype(float)  # numbers that lost their type on the way
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        if not np.isfinite(values).any():
            logger.warning("`%s` has no finite value in any cell: all are grey", key or "color")
        return Continuous(key, values)
    column = as_groups(column, key)
    names, codes = coded(column, key)
    if not (codes >= 0).any():
        logger.warning("`%s` is missing in all cells: all are grey", key or "color")
    missing = "NA"
    colors = group_colors(adata, key, names, palette)
    if groups is not None:
        chosen = chosen_groups(column, groups, f"adata.obs[{key!r}]" if key else "color", "groups")
        codes = np.where(column.isin(chosen), codes, -1)
        missing = ""
    return Categorical(key, codes, names, colors, missing)


def _of_each_cell(adata: "AnnData", values: Any, palette: Palette, groups: Any) -> Colors:
    """Read one value or colour for each cell."""
    if isinstance(values, pd.Series):
        values = in_order(values, adata.obs_names, "color")
    if sp.issparse(values):
        values = values.toarray()
    is_pandas = isinstance(values, pd.Series | pd.Categorical)
    array = values if is_pandas else np.asarray(values)
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim == 0 or len(array) != adata.n_obs:
        raise ValueError(
            f"Expected `color` with one value or colour for each of the {adata.n_obs} cells, found the shape "
            f"{array.shape}. Pass the name of a column or a gene, a list of names, or values in the cells' order."
        )
    if is_pandas:
        column = pd.Series(array).set_axis(adata.obs_names)
    else:
        if array.ndim == 2 and array.shape[1] in (3, 4):
            return PerCell(_each_color(list(array)))
        if array.ndim != 1:
            raise ValueError(
                f"Expected `color` with one value, or 3 or 4 numbers from red to opacity, for each cell, found the "
                f"shape {array.shape}."
            )
        column = pd.Series(array, index=adata.obs_names)
    if not pd.api.types.is_numeric_dtype(column.dtype) and not isinstance(column.dtype, pd.CategoricalDtype):
        entries = column.tolist()
        # Digits are names of groups rather than shades of grey.
        if not any(isinstance(entry, str) and entry.replace(".", "", 1).isdigit() for entry in entries):
            colors = read_each(entries)
            if None not in colors:
                return PerCell(_each_color(colors))
    return _of_column(adata, "", column, palette, groups)


def _each_color(entries: Sequence[Any]) -> Float[np.ndarray, "cells 4"]:
    from matplotlib.colors import to_rgba_array

    colors = read_each(entries)
    bad = [entry for entry, color in zip(entries, colors, strict=True) if color is None]
    if bad:
        raise ValueError(
            f"Expected a colour for each cell, found {len(bad)} that are none, such as `{bad[0]!r}`. Rows hold 3 or 4 "
            "numbers from 0 to 1, or integers from 0 to 255."
        )
    return to_rgba_array([color for color in colors if color is not None])


def gene_values(
    adata: "AnnData", name: Any, layer: str | None, use_raw: bool | None
) -> Float[np.ndarray, " cells"] | None:
    """Read a gene's values; :obj:`None` if there is no such gene."""
    place = None if use_raw else find_name(adata.var_names, name, "adata.var_names", "color")
    if use_raw and adata.raw is None:
        raise ValueError("Expected `adata.raw` with `use_raw=True`, found none. Leave out `use_raw`.")
    if use_raw and layer is not None:
        raise ValueError(f"Expected either `layer` or `use_raw=True`, found both: `adata.raw` has no {layer!r}.")
    if layer is not None and layer != "X" and layer not in adata.layers:
        raise KeyError(f"Expected `layer` to be one of {layer_names(adata)}, found `{layer!r}`.")
    if use_raw or (place is None and use_raw is None and adata.raw is not None):
        in_raw = find_name(adata.raw.var_names, name, "adata.raw.var_names", "color")
        if in_raw is not None and layer is not None:
            raise KeyError(
                f"Expected the gene {name!r} in `adata.var_names` for `layer={layer!r}`, found it in `adata.raw` only, "
                "which has no layers. Leave out `layer`."
            )
        if in_raw is not None:
            logger.debug("Taking the gene `%s` from `adata.raw`", name)
        return None if in_raw is None else _column_of(adata.raw.X, in_raw)
    if place is None:
        return None
    matrix = adata.X if layer in (None, "X") else adata.layers[layer]
    if matrix is None:
        raise KeyError(f"Expected expression in `adata.X` to colour by gene `{name!r}`, found none. Name a `layer`.")
    return _column_of(matrix, place)


def _column_of(matrix: Any, place: int) -> Float[np.ndarray, " cells"]:
    values = matrix[:, place]
    values = values.toarray() if sp.issparse(values) else np.asarray(values)
    return np.ravel(values).astype(float)


def _or_raw(adata: "AnnData") -> str:
    return "" if adata.raw is None else " or `adata.raw.var_names`"


def group_colors(adata: "AnnData", key: str, names: list[str], palette: Palette) -> list[str]:
    """Give one hexadecimal colour for each group."""
    if palette is not None:
        return _palette_colors(palette, key, names)
    stored = stored_colors(adata, key, names) if key else None
    if stored is None:
        return default_palette(len(names))
    colors, problem = stored
    if problem:
        others = "other colours" if not any(colors) else "other colours there"
        logger.warning(
            "`adata.uns['%s_colors']` holds %s: drawing with %s. Store one colour for each group of "
            "`adata.obs['%s']` in the order of its categories, or a dictionary from their names, or pass `palette`",
            key,
            problem,
            others,
            key,
        )
    return filled(colors)


def _palette_colors(palette: Any, key: str, names: list[str]) -> list[str]:
    """Give the groups the colours that the user asked for."""
    from matplotlib import colormaps
    from matplotlib.colors import Colormap, to_hex

    if isinstance(palette, str | Colormap):
        if isinstance(palette, str) and palette not in list(colormaps):
            raise ValueError(f"Expected `palette` to be colours or a colour map of matplotlib, found `{palette!r}`.")
        cmap = colormaps[palette] if isinstance(palette, str) else palette
        known = getattr(cmap, "colors", None)
        if known is not None and len(names) <= len(known) <= 20:
            return [to_hex(color) for color in known[: len(names)]]
        return [to_hex(cmap(x)) for x in np.linspace(0.0, 1.0, len(names))]
    if isinstance(palette, Mapping):
        by_name = {text_of(name) for name in palette}
        if missing := [name for name in names if name not in by_name]:
            raise ValueError(
                f"Expected `palette` to have a colour for each group of `{key!r}`, found none for {missing}."
            )
    elif hasattr(palette, "__len__") and not isinstance(palette, pd.Series | pd.DataFrame):
        palette = palette[: len(names)]  # in their order; it may be for more groups
    colors, problem = read_colors(palette, names)
    if problem:
        raise ValueError(
            f"Expected `palette` to hold {len(names)} colours for `{key!r}`, found {problem} in `{palette!r}`."
        )
    return [color for color in colors if color is not None]
