"""The picture of the leading eigenvalues: their real parts and the gap between them, or in the complex plane."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Complex

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.fate_keys import FateKeys

from ._figure import INK, Canvas, Sheet
from ._legend import legend_place
from ._looks import picture
from ._plain_axes import dress_axes, legend_look
from ._states import SAFE_COLORS

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

REMEDY = "Compute it with `GPCCA.compute_eigendecomposition()`."
REAL, PAIR = SAFE_COLORS[0], SAFE_COLORS[3]


@picture()
def spectrum(
    adata: "AnnData",
    n: int | None = None,
    real_only: bool | None = None,
    show_eigengap: bool = True,
    show_all_xticks: bool = True,
    legend_loc: Any = "best",
    title: str | None = None,
    marker: Any = "o",
    *,
    backward: bool = False,
    sheet: Sheet,
) -> "Axes | None":
    """Draw the leading eigenvalues of the transition matrix.

    Parameters
    ----------
    adata
        The cells, with the eigenvalues as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes them; not changed.
    n
        Number of eigenvalues; all that are stored by default.
    real_only
        Whether to draw the real parts, by rank, rather than all in the complex plane with the unit circle. By default
        if no eigenvalue is complex.
    show_eigengap
        Whether to mark the eigengap between real parts.
    show_all_xticks
        Whether to number all real parts.
    legend_loc
        Place of the legend; see :func:`scatter`.
    title
        Title.
    marker
        Marker of the eigenvalues.
    backward
        Whether the eigenvalues are those of a process backward in time.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If there are no eigenvalues.
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> axes = jv.pl.spectrum(adata, real_only=True, show=False)
    >>> axes.get_ylabel()
    'real part'
    """
    place = legend_place(legend_loc)
    if place.kind == "data":
        raise ValueError("Expected `legend_loc` to be 'none' or a place of a legend, found 'on data'.")
    if n is not None:
        check_integer("n", n, 1)
    key = FateKeys(backward).eigendecomposition
    stored = require_key(adata.uns, key, "adata.uns", REMEDY)
    values = np.asarray(require_key(stored, "D", f"adata.uns[{key!r}]", REMEDY)).astype(complex)[:n]
    if real_only is None:
        real_only = not np.any(values.imag)
    gap = stored.get("eigengap") if show_eigengap else None
    canvas = Canvas(sheet.of_size(max(5.0, 0.26 * len(values) + 1.5), 4.0) if real_only else sheet.of_size(5.0, 4.6))
    with canvas:
        if real_only:
            _draw_real_parts(canvas.ax, values, None if gap is None else int(gap), marker, show_all_xticks)
            usual = f"real parts of the {len(values)} leading eigenvalues"
        else:
            _draw_plane(canvas.ax, values, marker)
            usual = f"the {len(values)} leading eigenvalues"
        names = ("rank", "real part") if real_only else ("real part", "imaginary part")
        dress_axes(canvas.ax, usual if title is None else title, *names)
        if place.kind != "none":
            canvas.ax.legend(**legend_look(9), **place.arguments)
        return canvas.finish()


def _scatter(ax: Any, x: Any, y: Any, values: Complex[np.ndarray, " n"], marker: Any) -> None:
    """Draw eigenvalues, those of complex pairs in a colour of their own."""
    for chosen, color, label in ((values.imag == 0, REAL, "real"), (values.imag != 0, PAIR, "complex pair")):
        if chosen.any():
            ax.scatter(x[chosen], y[chosen], color=color, marker=marker, s=28, linewidths=0, label=label, zorder=3)


def _draw_real_parts(ax: Any, values: Complex[np.ndarray, " n"], gap: int | None, marker: Any, all_ticks: bool) -> None:
    """Draw the real parts by rank, and the gap between those of ranks ``gap`` + 1 and ``gap`` + 2."""
    from matplotlib.ticker import MaxNLocator

    ranks = np.arange(1, len(values) + 1)
    _scatter(ax, ranks, values.real, values, marker)
    if gap is not None and gap + 1 < len(values):
        label = f"eigengap, after {gap + 1}"
        ax.axvline(gap + 1.5, color=INK, linestyle="--", linewidth=1.0, label=label, zorder=1)
    if all_ticks:
        ax.set_xticks(ranks)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _draw_plane(ax: Any, values: Complex[np.ndarray, " n"], marker: Any) -> None:
    """Draw eigenvalues in the complex plane, and as much of the unit circle as is near."""
    angles = np.linspace(0, 2 * np.pi, 721)
    ax.plot(np.cos(angles), np.sin(angles), color="0.6", linewidth=1.0, label="unit circle", zorder=1)
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    _scatter(ax, values.real, values.imag, values, marker)
    center = (values.real.min() + values.real.max()) / 2
    half = 0.55 * max(np.ptp(values.real), 2 * np.abs(values.imag).max()) + 0.03
    ax.set(xlim=(center - half, center + half), ylim=(-half, half), aspect="equal")
