"""Phase portraits: unspliced against spliced abundance of single genes, with the curves that were fitted to them."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.entries import layer_names, require_key
from jaxvelo.annotated.names import is_name, places_of, text_of

from ._checks import check_opacity, check_positive, checked_cmap
from ._colors import Categorical, Colors, Continuous, Palette, cell_colors
from ._figure import INK, Canvas, Sheet, text_size
from ._legend import Legend, Place, draw_legend, group_handles, legend_place, warn_about_many
from ._looks import picture
from ._panels import MANY_CELLS, Points, cell_size, color_name, draw_color_bar, draw_points
from ._phase_curves import PhaseCurves, read_phase_curves

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

NAMES = {"Ms": "spliced", "Mu": "unspliced"}
STEADY = "#6a6a6a"
UNUSED = 0.3  # opacity of what has no part in the velocity
SWITCH: dict[str, Any] = {"marker": "D", "markersize": 5.5, "color": INK, "markeredgecolor": "white"}


@picture()
def phase_portrait(
    adata: "AnnData",
    var_names: str | Sequence[str],
    color: Any = None,
    *,
    xkey: str = "Ms",
    ykey: str = "Mu",
    vkey: str = "velocity",
    ncols: int = 4,
    n_samples: int = 30,
    seed: int = 0,
    linewidth: float = 1.0,
    layer: str | None = None,
    palette: Palette = None,
    cmap: Any = None,
    size: float | None = None,
    alpha: float = 1.0,
    legend_loc: str | None = "right margin",
    title: str | None = None,
    sheet: Sheet,
) -> "Axes | list[Axes] | None":
    r"""Draw unspliced against spliced abundance, one panel for each gene, with the model that was fitted to them.

    With a dynamical model (``var["fit_alpha"]``, ``["fit_beta"]``, ``["fit_gamma"]``, ``["fit_t_"]`` and
    ``["fit_scaling"]``, as scVelo writes them) its curve is drawn: induction solid, repression dotted, a diamond at the
    switch between them, and dashed the line of steady states with slope ``fit_gamma / fit_beta``, or, where the gene's
    velocity is that of gradual transcription, the one of this model, ``fit_gradual_slope``. With
    ``varm["fit_covariance"]``, pale curves show its uncertainty: draws from the normal approximation of
    :math:`\log U, \log S, \log g, \log T`, where :math:`U = \mathrm{fit\_scaling} \cdot \alpha / \beta` and
    :math:`S = \alpha / \gamma` are the asymptotes of unspliced and spliced, :math:`g = \gamma / \beta`,
    :math:`T = \beta\, \mathrm{fit\_t\_}`, and :math:`\beta = \mathrm{fit\_beta} \cdot \mathrm{fit\_scaling}`. A gene
    that the model was not fitted to has its cells only, and "no fit" under its name. There stands, too, which model
    gives the gene's velocity (``var["fit_model"]``); branches of the curve that have no part in it are pale.

    Without a dynamical model, the line of steady states of ``var[f"{vkey}_gamma"]`` is drawn, if there is one.

    Parameters
    ----------
    adata
        The cells; not changed.
    var_names
        One gene or several.
    color
        Column of ``obs`` (groups or numbers), layer (for each gene its own values, such as ``"velocity"`` or
        ``"fit_t"``), gene, one colour for all cells, or one value or colour for each cell. By default
        ``obs["clusters"]``, or the first categorical column that is a clustering.
    xkey, ykey
        Layers of spliced and unspliced abundance. The model's curves are in units of ``"Ms"`` and ``"Mu"``.
    vkey
        Start of the columns of the steady-state model, ``var[f"{vkey}_gamma"]`` and ``[f"{vkey}_offset"]``.
    ncols
        Number of panels in a row.
    n_samples
        Number of curves that show the uncertainty; 0 for none.
    seed
        Seed of these.
    linewidth
        Thickness of the curves, relative to the default.
    layer
        Layer of the values if ``color`` is a gene; ``X`` by default.
    cmap
        Colour map of numbers. By default ``"coolwarm"``, with zero in its middle, for a layer with values of both
        signs, and ``"viridis"`` for all else.
    legend_loc
        Place of the groups' names, as in :func:`scatter`: beside the picture by default, once for all panels; a place
        inside is that in the first panel. ``"on data"`` is beside the picture, too: most groups have their medians
        close to zero, and names there would hide the cells. The lines are explained beside the picture; ``"none"``
        leaves out both.
    title
        Title: of the panel for one gene (its name by default), of the figure for several.
    palette, size, alpha
        See :func:`scatter`.
    sheet
        ``figsize``, ``dpi``, ``save`` and ``show``: see :func:`scatter`; ``ax`` for one gene only.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given: of the gene if ``var_names`` is a string, otherwise a list in
        the order of ``var_names``.

    Raises
    ------
    KeyError
        If a gene, a layer, ``color`` or a part of the fit does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If there are no genes, several for one ``ax``, names that are not unique, no cells with finite abundance, or
        an argument is out of range.

    References
    ----------
    Bergen et al. (2020).

    Examples
    --------
    >>> axes = jv.pl.phase_portrait(fitted, ["gene_20", "gene_33"], show=False)
    >>> [panel.get_title() for panel in axes]
    ['gene_20', 'gene_33']
    """
    genes, places = _genes(adata, var_names)
    for name, number, least in (("ncols", ncols, 1), ("n_samples", n_samples, 0), ("seed", seed, 0)):
        check_integer(name, number, least)
    look = _Look(
        ncols=ncols,
        linewidth=linewidth,
        cmap=None if cmap is None else checked_cmap("cmap", cmap),
        size=size,
        alpha=alpha,
        legend=Legend(legend_loc=legend_loc),
        title=title,
        xlabel=NAMES.get(xkey, xkey),
        ylabel=NAMES.get(ykey, ykey),
    )
    if sheet.ax is not None and len(genes) > 1:
        raise ValueError(
            f"Expected one gene to draw on `ax`, found {len(genes)}: {listed(genes)}. Draw them one by one, or leave "
            "out `ax` for a figure with a panel for each."
        )
    positions = [_abundance(adata, gene, i, xkey, ykey) for gene, i in zip(genes, places, strict=True)]
    layer_of_colors = color if _is_layer(adata, color) else None
    if layer_of_colors is None:
        colors = [_common_colors(adata, color, palette, layer)] * len(genes)
    else:
        colors = [Continuous(color, _of_gene(adata, color, i)) for i in places]
    curves = [read_phase_curves(adata, i, vkey, n_samples, seed) for i in places]
    portraits = [_Portrait(*one) for one in zip(genes, positions, colors, curves, strict=True)]
    done, panels = _draw(portraits, layer_of_colors, look, sheet)
    return done if is_name(var_names) or done is None else panels


@dataclasses.dataclass(frozen=True)
class _Portrait:
    """What a panel shows: the cells of one gene, spliced first, and what the model says."""

    gene: str
    positions: Float[np.ndarray, "cells 2"]
    colors: Colors
    curves: PhaseCurves


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    """How portraits look, in the user's words; the colour map is None for the usual one."""

    ncols: int
    linewidth: float
    cmap: Any
    size: float | None
    alpha: float
    legend: Legend
    title: str | None
    xlabel: str
    ylabel: str

    def __post_init__(self) -> None:
        check_positive("linewidth", self.linewidth)
        check_positive("size", self.size)
        check_opacity("alpha", self.alpha)


def _draw(
    portraits: list[_Portrait], layer: str | None, look: _Look, sheet: Sheet
) -> tuple["Axes | None", list["Axes"]]:
    """Draw a panel for each gene; ``layer`` is what all are coloured by, each with its own colour bar, or None."""
    first, n_cells = portraits[0], len(portraits[0].positions)
    handles = _legend_handles(first.colors, [portrait.curves for portrait in portraits], look.legend.place)
    n_rows, n_columns = -(-len(portraits) // look.ncols), min(look.ncols, len(portraits))
    n_bars = 0 if not isinstance(first.colors, Continuous) else 1 if layer is None else n_columns
    sheet = sheet.of_size(*_figure_size(n_rows, n_columns, n_bars, handles))
    canvas = Canvas(sheet, n_panels=len(portraits), ncols=look.ncols)
    panels = canvas.axes
    with canvas:
        if canvas.own:
            panels[0].figure.get_layout_engine().set(w_pad=0.08)
        rasterized = n_cells * len(portraits) > MANY_CELLS
        size = 0.4 * cell_size(n_cells) if look.size is None else look.size
        drawn = None
        for i, (panel, portrait) in enumerate(zip(panels, portraits, strict=True)):
            norm, cmap, extend = _color_scale(portrait.colors, look.cmap, layer is not None)
            points = Points(size=size, cmap=cmap, norm=norm, alpha=look.alpha, rasterized=rasterized)
            drawn = draw_points(panel, portrait.positions, portrait.colors, points)
            if drawn is not None and layer is not None:
                draw_color_bar(drawn, panel, label=layer, shrink=0.8, extend=extend)
            _draw_curves(panel, portrait.curves, portrait.positions, look.linewidth)
            name = look.title if look.title is not None and len(portraits) == 1 else portrait.gene
            _label(panel, name, portrait.curves.note)
            if i % n_columns == 0:
                panel.set_ylabel(look.ylabel, color=INK, fontsize=text_size(10))
            if i + n_columns >= len(portraits):
                panel.set_xlabel(look.xlabel, color=INK, fontsize=text_size(10))
        if drawn is not None and layer is None:
            draw_color_bar(drawn, panels, label=color_name(first.colors), shrink=0.8 / n_rows)
        if look.title is not None and len(portraits) > 1:
            panels[0].figure.suptitle(look.title, color=INK, fontsize=text_size(13))
        _draw_legends(panels, first, handles, look.legend, own=canvas.own)
        return canvas.finish(), panels


def _genes(adata: "AnnData", var_names: str | Sequence[str]) -> tuple[list[str], list[int]]:
    """Give the genes' names and their places in ``var``."""
    genes = [var_names] if is_name(var_names) else list(var_names)
    if not genes:
        raise ValueError("Expected at least one gene in `var_names`, found none.")
    places = places_of(adata.var_names, genes, "adata.var_names", "var_names")
    return [text_of(gene) for gene in genes], places.tolist()


def _abundance(adata: "AnnData", gene: str, place: int, xkey: str, ykey: str) -> Float[np.ndarray, "cells 2"]:
    """Read spliced and unspliced abundance of one gene."""
    positions = np.stack([_of_gene(adata, key, place) for key in (xkey, ykey)], axis=1)
    if not np.isfinite(positions).all(axis=1).any():
        raise ValueError(
            f"Expected finite numbers for the gene {gene!r} in `adata.layers[{xkey!r}]` and `[{ykey!r}]`, found none "
            f"in {len(positions)} cells. Leave out the gene, or compute the moments again."
        )
    return positions


def _of_gene(adata: "AnnData", key: str, place: int) -> Float[np.ndarray, " cells"]:
    """Read one gene's values from a layer."""
    remedy = "Compute moments as `jaxvelo.pp.moments(adata)`, or name other layers in `xkey` and `ykey`."
    values = require_key(adata.layers, key, "adata.layers", remedy)[:, place]
    return np.ravel(values.toarray() if sp.issparse(values) else np.asarray(values)).astype(float)


def _is_layer(adata: "AnnData", color: Any) -> bool:
    """Tell whether ``color`` names a layer: columns of ``obs`` come first."""
    return isinstance(color, str) and color not in adata.obs and color in adata.layers


def _common_colors(adata: "AnnData", color: Any, palette: Palette, layer: str | None) -> Colors:
    """Find out what ``color`` means, the same for all genes."""
    try:
        return cell_colors(adata, color, palette, layer)
    except KeyError as error:
        if layer is not None or not isinstance(color, str):
            raise
        raise KeyError(
            f"Expected `color` to be a column of `adata.obs`, a layer, a gene in `adata.var_names` or a colour, found "
            f"`{color!r}`. Columns are {listed(adata.obs)}, layers {listed(layer_names(adata))}."
        ) from error


def _color_scale(colors: Colors, cmap: Any, is_layer: bool) -> tuple[Any, Any, str | None]:
    """Give norm and map of the colours, zero in the middle if there are both signs, and whether numbers go beyond."""
    from matplotlib.colors import Normalize

    if not isinstance(colors, Continuous) or not np.isfinite(colors.values).any():
        return None, cmap or "viridis", None
    values = colors.values[np.isfinite(colors.values)]
    if not is_layer or values.min() >= 0 or values.max() <= 0:
        return Normalize(values.min(), values.max()), cmap or "viridis", None
    # A few extreme cells would leave all others without colour.
    largest = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max())
    return Normalize(-largest, largest), cmap or "coolwarm", "both" if largest < np.abs(values).max() else None


def _draw_curves(ax: Any, curves: PhaseCurves, positions: Float[np.ndarray, "cells 2"], linewidth: float) -> None:
    """Draw what the model says, and set the limits by the cells first and the curve second."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    cells = positions[np.isfinite(positions).all(axis=1)]
    low, high = np.minimum(cells.min(axis=0), 0.0), cells.max(axis=0)
    if len(curves.induction):
        # The whole curve if it does not make the cells small.
        turn = np.maximum(curves.induction.max(axis=0), curves.repression.max(axis=0))
        high = np.maximum(high, np.minimum(turn, 1.3 * high))
    high = np.where(high > low, high, low + 1.0)
    margin = 0.05 * (high - low)
    halo = [withStroke(linewidth=3.2 * linewidth, foreground="white", alpha=0.8)]
    if np.isfinite(curves.slope):
        x = np.array([curves.origin[0], high[0] + 2 * margin[0]])
        y = curves.origin[1] + curves.slope * (x - x[0])
        ax.plot(x, y, color=STEADY, linestyle=(0, (4, 2)), linewidth=1.2 * linewidth, zorder=3, gid="steady states")
    if len(curves.samples):
        pale: dict[str, Any] = {"colors": INK, "linewidths": 0.8 * linewidth, "alpha": 0.28, "gid": "uncertainty"}
        ax.add_collection(LineCollection(list(curves.samples), zorder=2, **pale), autolim=False)
    if len(curves.induction):
        bold: dict[str, Any] = {"color": INK, "linewidth": 1.8 * linewidth, "path_effects": halo, "zorder": 5}
        strength = {
            name: 1.0 if curves.model in ("", "curve", name) else UNUSED for name in ("induction", "repression")
        }
        ax.plot(*curves.induction.T, **bold, alpha=strength["induction"], gid="induction")
        dotted = {"linestyle": (0, (1, 1.2)), "alpha": strength["repression"]}
        ax.plot(*curves.repression.T, **bold, **dotted, gid="repression")
        switch = {**SWITCH, "linestyle": "", "alpha": min(strength.values())}
        ax.plot(*curves.induction[-1:].T, **switch, zorder=6, gid="switch")
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))


def _label(ax: Any, name: str, note: str) -> None:
    """Write the title, what is known of the fit below it, and few numbers at the axes."""
    from matplotlib.ticker import MaxNLocator

    lines = textwrap.wrap(note, 42)
    ax.set_title(name, color=INK, fontsize=text_size(12), pad=3 + 13 * len(lines))
    if lines:
        note = "\n".join(lines)
        ax.text(0.5, 1.02, note, transform=ax.transAxes, ha="center", va="bottom", fontsize=8, color=STEADY, gid="note")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("0.6")
    ax.tick_params(color="0.6", labelcolor=INK, labelsize=text_size(8), length=2.5)


def _legend_handles(colors: Colors, curves: list[PhaseCurves], place: Place) -> list[Any]:
    """Give the entries of the legend beside the picture: groups, and the lines that are in any panel."""
    from matplotlib.lines import Line2D

    if place.kind == "none":
        return []
    handles = []
    if isinstance(colors, Categorical) and place.kind != "inside":
        warn_about_many(colors)
        handles = group_handles(colors)
    if any(len(curve.induction) for curve in curves):
        handles += [
            Line2D([], [], color=INK, linewidth=1.8, label="induction"),
            Line2D([], [], color=INK, linewidth=1.8, linestyle=(0, (1, 1.2)), label="repression"),
            Line2D([], [], **SWITCH, linestyle="", label="switch"),
        ]
    if any(len(curve.samples) for curve in curves):
        handles.append(Line2D([], [], color=INK, alpha=0.2, linewidth=6, label="uncertainty"))
    if any(np.isfinite(curve.slope) for curve in curves):
        handles.append(Line2D([], [], color=STEADY, linewidth=1.2, linestyle=(0, (4, 2)), label="steady states"))
    return handles


def _figure_size(n_rows: int, n_columns: int, n_bars: int, handles: list[Any]) -> tuple[float, float]:
    """Give width and height in inches with room for colour bars and for the legend beside the panels."""
    side = 3.0 if n_rows * n_columns == 1 else 2.6
    height = side * n_rows + 0.2
    longest = max((len(handle.get_label()) for handle in handles), default=0)
    size, n_legend_columns = _legend_shape(len(handles), height)
    legend = n_legend_columns * (0.55 + 0.075 * longest) * size / 9
    return (side + 0.1) * n_columns + 0.6 * n_bars + legend + 0.2, height


def _legend_shape(n_entries: int, height: float) -> tuple[float, int]:
    """Give size of the text and number of columns of a legend in a figure of some height in inches."""
    size = text_size(9.0 if n_entries <= 36 else 6.5)
    return size, -(-n_entries // max(4, int((height - 0.3) / (0.21 * size / 9))))


def _draw_legends(panels: list[Any], first: _Portrait, handles: list[Any], legend: Legend, *, own: bool) -> None:
    """Draw the legend beside the picture, and the groups' names in the first panel if they belong there."""
    figure, place = panels[0].figure, legend.place
    size, n_columns = _legend_shape(len(handles), figure.get_figheight())
    style: dict[str, Any] = {"frameon": False, "fontsize": size, "labelcolor": INK, "handlelength": 1.6}
    beside = place if place.kind == "outside" else legend_place("right margin")
    if handles and own:
        row, side = beside.arguments["loc"].split()  # the corner of the legend that is next to the axes
        where = f"{'right' if side == 'left' else 'left'} {row}"
        if side == "center":
            where = f"{'upper' if row == 'lower' else 'lower'} center"
        figure.legend(handles=handles, loc=f"outside {where}", ncols=n_columns, **style)
    elif handles:
        lines = panels[0].legend(handles=handles, **beside.arguments, **style)
        if place.kind == "inside":  # the second legend below would replace this one
            panels[0].add_artist(lines)
            lines.set_clip_on(False)
    if place.kind == "inside":
        draw_legend(panels[0], first.positions, first.colors, legend)
