"""Known fates, by the names of the cells or of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.fitting.objectives._blind_labels import checked_share
from jaxvelo.fitting.objectives._fate_labels import fate_labels, terminal_fates


def FateLikelihood(
    adata: AnnData,
    fates: str | Mapping[str, Any],
    terminal: str | Mapping[str, Any],
    blind: float | str = "fit",
) -> fit.FateLikelihood:
    r"""Negative log-likelihood of the known fates of some cells, given terminal cells; labels may be wrong.

    Parameters
    ----------
    adata
        Annotated data.
    fates
        Known fates: key of a categorical column in ``adata.obs``, missing where the fate is not known; or, for each
        fate, its cells, as indices, names, a mask or ``{"clusters": ["Alpha", "Beta"]}``.
    terminal
        Terminal cells of each fate, likewise. A terminal cell's own fate is certain: it makes no item.
    blind
        Share of the labels that were given blindly, any of the :math:`K` fates as likely as the others, so that
        :math:`(K - 1) / K` of them are wrong: of two fates, 0.4 if one label in five is wrong. ``"fit"`` takes the
        likeliest share for the labels and each kernel, which is 0 where the kernel explains them. With 0, few wrong
        labels of cells that are sure of their fate flatten the whole kernel.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FateLikelihood`. Its fates are those of ``terminal``, in that order;
    ``blind_share((kernel.transitions,))`` is the likeliest share for a kernel.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If a fate has no terminal cells, a cell has two fates, no fate is known, or the share is none.

    Examples
    --------
    >>> objective = jv.objectives.FateLikelihood(adata, "true_fate", "term_states_fwd")
    >>> objective.names
    ('Fate A', 'Fate B')
    """
    require_anndata(adata)
    share = checked_share(blind)
    ends, names = terminal_fates(adata, terminal)
    known, fate_names = fate_labels(adata, fates, "fates")
    unknown = [name for name in fate_names if name not in names]
    if unknown:
        raise ValueError(
            f"Expected each fate in `fates` to have terminal cells, found none for {listed(unknown)}. "
            f"`terminal` has {listed(names)}."
        )
    fate = np.array([names.index(name) for name in fate_names] + [-1])[known]
    cell = np.flatnonzero((fate >= 0) & (ends < 0))
    if not len(cell):
        raise ValueError("Expected some cells with a known fate that are not terminal themselves, found none.")
    return fit.FateLikelihood(
        terminal=jnp.asarray(ends),
        n_fates=len(names),
        fate=jnp.asarray(fate[cell]),
        cell=jnp.asarray(cell),
        weight=jnp.ones(len(cell)),
        blind=share,
        names=tuple(names),
    )
