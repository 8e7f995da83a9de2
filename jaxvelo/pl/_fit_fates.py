"""What a fit makes of the fates: before, after, in truth, and the change, in an embedding."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import require_key

from ._colors import Continuous
from ._embedding import finite_rows, read_positions
from ._figure import Canvas
from ._looks import Looks, picture
from ._panels import cell_size, color_name, draw_cells, dress, titles_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

TRUTH = "true_fate_probabilities"


@picture()
def fit_fates(
    result: Any,
    fates: Any = None,
    basis: str | None = None,
    truth: str | None = None,
    *,
    looks: Looks,
) -> "list[Axes] | None":
    """Draw fate probabilities by the convention and by the fitted kernel, and the change.

    A row of panels for each fate: the convention, the fitted kernel, the truth where it is known, all on one scale, and
    fitted minus convention. Of two fates, one says all.

    Parameters
    ----------
    result
        A :class:`jaxvelo.tl.FitResult` of an objective with fates.
    fates
        Names of the fates to draw; all if ``None``, or the first of two.
    basis
        Name of the embedding; UMAP, t-SNE or PCA, the first of these that is there, if ``None``.
    truth
        Key in ``adata.obsm`` of the true fate probabilities, a table with the fates' names, or an array with the fates
        in the order of the categories of ``adata.obs["true_fate"]``. If ``None``, ``"true_fate_probabilities"`` is
        drawn where it is there and fits.
    looks
        All other arguments that concern cells and figure: see :func:`scatter`. A colour map is that of the
        probabilities.

    Returns
    -------
    The axes, row by row, if ``show=False``.

    Raises
    ------
    KeyError
        If a fate, the embedding or the truth does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If the result has no fates, or an argument is out of range or does not fit.

    Examples
    --------
    >>> axes = jv.pl.fit_fates(result, truth="true_fate_probabilities", show=False)
    >>> [panel.get_title() for panel in axes]
    ['Fate A, convention', 'Fate A, fitted', 'Fate A, truth', 'fitted − convention']
    """
    if not result.fates:
        raise ValueError(
            f"Expected a fit with fates, found one to {result.objective}. Draw `result.plot()`, or the fitted kernel "
            "by `result.kernel.plot_projection()`."
        )
    adata, names = result.kernel.adata, list(result.fate_names)
    chosen = names[: 1 if len(names) == 2 else None] if fates is None else np.atleast_1d(fates).tolist()
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise KeyError(f"Expected `fates` to name some of {listed(names)}, found {listed(unknown)}.")
    if not chosen:
        raise ValueError(f"Expected some of the fates {names} to draw, found none.")
    embedding = read_positions(adata, basis, looks.components, looks.projection)
    before, after = result.fates["convention"], result.fates["fitted"]
    known = _truth(adata, truth, names)
    largest = float(np.nanmax(np.abs(after - before), initial=1e-6))
    panels = []
    for name in chosen:
        column = names.index(name)
        panels += [Continuous(f"{name}, convention", before[:, column], (0, 1))]
        panels += [Continuous(f"{name}, fitted", after[:, column], (0, 1))]
        if known is not None:
            panels += [Continuous(f"{name}, truth", known[:, column], (0, 1))]
        panels += [Continuous("fitted − convention", (after - before)[:, column], (-largest, largest))]
    n_columns = len(panels) // len(chosen)
    titles = titles_of(looks.title, list(map(color_name, panels)))
    diverging = dataclasses.replace(looks, scale=dataclasses.replace(looks.scale, cmap="coolwarm", sort_order=False))
    size = looks.size or cell_size(int(finite_rows(embedding.positions).sum()))
    canvas = Canvas(
        looks.sheet,
        n_dims=embedding.positions.shape[1],
        n_panels=len(panels),
        ncols=n_columns,
        default_size=(4.2, 3.5),
    )
    with canvas:
        for number, (ax, panel, title) in enumerate(zip(canvas.axes, panels, titles, strict=True)):
            own = diverging if number % n_columns == n_columns - 1 else looks
            draw_cells(ax, embedding.positions, panel, own, size=size)
            dress(ax, embedding, looks, title)
        return canvas.finish(listed=True)


def _truth(adata: "AnnData", key: str | None, names: list[str]) -> Float[np.ndarray, "cells fates"] | None:
    """Read true fate probabilities in the order of the names."""
    if key is None and TRUTH not in adata.obsm:
        return None
    stored = require_key(adata.obsm, TRUTH if key is None else key, "adata.obsm", "Name another key in `truth`.")
    if isinstance(stored, pd.DataFrame):
        found = [str(name) for name in stored.columns]
    elif "true_fate" in adata.obs and isinstance(adata.obs["true_fate"].dtype, pd.CategoricalDtype):
        found = [str(name) for name in adata.obs["true_fate"].cat.categories]
    else:
        found = []
    values = np.asarray(stored, dtype=float) if isinstance(stored, pd.DataFrame) else dense(stored).astype(float)
    missing = [name for name in names if name not in found]
    if not missing and values.ndim == 2 and values.shape[1] == len(found):
        return values[:, [found.index(name) for name in names]]
    if key is None:
        return None
    raise ValueError(
        f"Expected `adata.obsm[{key!r}]` to have a column for each of the fates {listed(names)}, found shape "
        f"{values.shape} and the names {listed(found)}. Store it as a table whose columns have the fates' names."
    )
