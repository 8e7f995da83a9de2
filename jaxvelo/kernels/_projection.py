"""Transition probabilities as arrows in an embedding."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.embeddings import read_embedding
from jaxvelo.annotated.entries import stored_parameters
from jaxvelo.annotated.quiver_scale import automatic_quiver_scale
from jaxvelo.annotated.velocity_arrows import warn_about_places
from jaxvelo.configuration import logger, timed
from jaxvelo.graph import TransitionMatrix
from jaxvelo.markov import project


def are_used(adata: AnnData, name: str, arrows: np.ndarray | None, is_default: bool) -> bool:
    """Whether the arrows at ``adata.obsm[name]`` are used: those that are ``arrows`` or, if that is ``None``, any.

    Raises
    ------
    ValueError
        If they are others, under a name that the user chose.

    Warns
    -----
    If they are others, under a default name, and will be replaced.
    """
    known = dense(adata.obsm[name])
    if arrows is None or _differ_in_length(known, arrows):
        logger.info("Using precomputed projection `adata.obsm[%r]`", name)
        return True
    if not is_default:
        raise ValueError(
            f"Expected arrows of this kernel in `adata.obsm[{name!r}]`, found others. Pass `recompute=True` to "
            "replace them, or another `key_added`."
        )
    logger.warning(
        "`adata.obsm[%r]` has arrows of another kernel or embedding: replacing them. Pass `key_added` to keep both",
        name,
    )
    return False


def arrows_of(adata: AnnData, transitions: TransitionMatrix, neighbors: str, basis: str) -> np.ndarray:
    """Arrows of any length, shape ``(cells, dimensions)``; see :func:`jaxvelo.markov.project`.

    Parameters
    ----------
    adata
        Annotated data with the embedding.
    transitions
        Transition probabilities among its cells.
    neighbors
        Name of the edges, on the graph of the transition probabilities, that are summed over.
    basis
        Name of the embedding.
    """
    embedding = jnp.asarray(read_embedding(adata, basis), dtype=float)
    return np.asarray(project(transitions, embedding, neighbors))


def add_arrows(adata: AnnData, transitions: TransitionMatrix, neighbors: str, basis: str, key: str) -> None:
    """Write arrows to ``adata.obsm[f"{key}_{basis}"]``, scaled as matplotlib's quiver would.

    Parameters
    ----------
    adata, transitions, neighbors, basis
        As of :func:`arrows_of`.
    key
        Where the arrows go, and with ``"_params"`` in ``adata.uns`` a list of the embeddings.
    """
    embedding = read_embedding(adata, basis)
    warn_about_places(embedding, basis)
    with timed(f"Projecting transition matrix onto `{basis}`"):
        arrows = arrows_of(adata, transitions, neighbors, basis)
        arrows = arrows / (3 * automatic_quiver_scale(embedding, arrows))
        stored = stored_parameters(adata, f"{key}_params")
        bases = [str(b) for b in stored.get("embeddings", [])]
        logger.info("Adding `adata.obsm[%r]`", f"{key}_{basis}")
    adata.uns[f"{key}_params"] = {**stored, "embeddings": [*bases, *([basis] if basis not in bases else [])]}
    adata.obsm[f"{key}_{basis}"] = arrows.astype(embedding.dtype if embedding.dtype.kind == "f" else float)


def _differ_in_length(known: np.ndarray, arrows: np.ndarray) -> bool:
    """Whether known arrows are these but for a common factor, and rounding."""
    if known.shape != arrows.shape or known.dtype.kind not in "fiu":
        return False
    finite = np.isfinite(arrows).all(axis=1)
    if not np.array_equal(finite, np.isfinite(known).all(axis=1)):
        return False
    known, arrows = known[finite].astype(np.float64), arrows[finite].astype(np.float64)
    factor = float(np.sum(known * arrows)) / (float(np.sum(arrows**2)) or 1.0)
    return bool(factor > 0 or not known.any()) and bool(
        np.abs(known - factor * arrows).max(initial=0) <= 1e-3 * np.abs(known).max(initial=0)
    )
