"""Velocities in an embedding, under scVelo's names."""

from typing import TYPE_CHECKING, Any

from jaxvelo.configuration import is_positive

from ._grid import projection_cells, projection_grid
from ._stream import projection_stream

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def velocity_embedding_stream(
    adata: "AnnData", basis: str | None = None, vkey: str = "velocity", **arguments: Any
) -> "Axes | list[Axes] | None":
    """Draw stream lines of velocities in an embedding.

    It is :func:`projection_stream` of other arrows: those in ``obsm[f"{vkey}_{basis}"]``, or, where there are none or
    they are older than the velocity graph, those that :func:`jaxvelo.tl.velocity_embedding` would store.

    Parameters
    ----------
    adata
        The cells, with a velocity graph; not changed.
    basis
        Embedding: UMAP, t-SNE or PCA by default, the first of these that is there.
    vkey
        Key of the velocities.
    arguments
        All others of :func:`projection_stream`, such as ``density``, ``min_mass``, ``color``, ``recompute``. What they
        measure is what it is there, so that numbers from scripts for scVelo may look different.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`projection_stream`.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> axes = jv.pl.velocity_embedding_stream(adata, basis="umap", show=False)
    >>> axes.get_title()
    'clusters'
    """
    return projection_stream(adata, basis, vkey, **arguments)


def velocity_embedding_grid(
    adata: "AnnData", basis: str | None = None, vkey: str = "velocity", *, scale: float | None = None, **arguments: Any
) -> "Axes | list[Axes] | None":
    """Draw arrows of velocities in an embedding, averaged on a regular grid.

    Parameters
    ----------
    adata, basis, vkey
        See :func:`velocity_embedding_stream`.
    scale
        As in scVelo, the inverse of ``arrow_length``.
    arguments
        All others of :func:`projection_grid`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`projection_grid`.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> axes = jv.pl.velocity_embedding_grid(adata, basis="umap", density=0.8, show=False)
    >>> axes.get_title()
    'clusters'
    """
    return projection_grid(adata, basis, vkey, **_with_length(scale, arguments))


def velocity_embedding(
    adata: "AnnData", basis: str | None = None, vkey: str = "velocity", *, scale: float | None = None, **arguments: Any
) -> "Axes | list[Axes] | None":
    """Draw the velocity of each cell as an arrow in an embedding.

    Parameters
    ----------
    adata, basis, vkey
        See :func:`velocity_embedding_stream`.
    scale
        As in scVelo, the inverse of ``arrow_length``.
    arguments
        All others of :func:`projection_cells`.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`projection_cells`.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> axes = jv.pl.velocity_embedding(adata, basis="umap", show=False)
    >>> axes.get_title()
    'clusters'
    """
    return projection_cells(adata, basis, vkey, **_with_length(scale, arguments))


def _with_length(scale: float | None, arguments: dict[str, Any]) -> dict[str, Any]:
    if scale is None or arguments.get("arrow_length") is not None:  # which counts there, too
        return arguments
    if not is_positive(scale):
        raise ValueError(f"Expected `scale` to be a positive number, found `{scale!r}`.")
    return {**arguments, "arrow_length": 1 / scale}
