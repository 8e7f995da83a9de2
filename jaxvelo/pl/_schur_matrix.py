"""The picture of the real Schur matrix."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.fate_keys import FateKeys

from ._checks import checked_cmap
from ._figure import INK, Canvas, Sheet, text_size
from ._heat_map import draw_heat_map
from ._looks import picture
from ._panels import draw_color_bar

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

REMEDY = "Compute it with `GPCCA.compute_schur()`."


@picture()
def schur_matrix(
    adata: "AnnData",
    title: str | None = "Schur matrix",
    cmap: Any = "viridis",
    *,
    fmt: str = ".2f",
    backward: bool = False,
    sheet: Sheet,
) -> "Axes | None":
    """Draw the real Schur matrix: eigenvalues on the diagonal, a block of two rows for each complex pair.

    Parameters
    ----------
    adata
        The cells, with the matrix as :class:`jaxvelo.estimators.GPCCA` or CellRank's writes it; not changed.
    title
        Title.
    cmap
        Colour map.
    fmt
        How numbers are written.
    backward
        Whether the matrix is that of a process backward in time.
    sheet
        ``figsize``, ``dpi``, ``ax``, ``save`` and ``show``: see :func:`scatter`.

    Returns
    -------
    Axes or None
        The axes if ``show=False`` or ``ax`` was given.

    Raises
    ------
    KeyError
        If there is no Schur matrix.
    TypeError
        If an argument does not exist.
    ValueError
        If what is stored is no square matrix, or an argument is out of range.

    Examples
    --------
    >>> axes = jv.pl.schur_matrix(adata, show=False)
    >>> axes.get_title()
    'Schur matrix'
    """
    cmap = checked_cmap("cmap", cmap)
    key = FateKeys(backward).schur_matrix
    matrix = np.asarray(require_key(adata.uns, key, "adata.uns", REMEDY))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "fiu":
        raise ValueError(
            f"Expected a square matrix of numbers in `adata.uns[{key!r}]`, found the type {matrix.dtype} of shape "
            f"{matrix.shape}. {REMEDY}"
        )
    n = len(matrix)
    # What is zero below the diagonal by definition stays empty.
    shown = np.where(np.tri(n, k=-1, dtype=bool) & np.isclose(matrix, 0.0), np.nan, matrix.astype(float))
    limits = float(np.nanmin(shown)), float(np.nanmax(shown))
    canvas = Canvas(sheet.of_size(1.6 + 0.48 * max(n, 5), 1.0 + 0.42 * max(n, 5)))
    with canvas:
        image = draw_heat_map(canvas.ax, shown, cmap, limits=limits, form=fmt)
        ticks = range(n) if n <= 10 else [0, *range(4, n, 5)]
        names = [str(i + 1) for i in ticks]
        canvas.ax.set_xticks(ticks, names, fontsize=text_size(9))
        canvas.ax.set_yticks(ticks, names, fontsize=text_size(9))
        canvas.ax.set_xlabel("Schur vector", color=INK, fontsize=text_size(10))
        draw_color_bar(image, canvas.ax)
        if title:
            canvas.ax.set_title(title, color=INK, fontsize=text_size(13))
        return canvas.finish()
