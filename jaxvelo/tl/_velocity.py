"""Tools on an AnnData, under scVelo's names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.annotated.kinetic_tests import GROUPS, read_other_kinetics
from jaxvelo.annotated.memory_limit import bytes_of
from jaxvelo.annotated.parts import Part, parts_of
from jaxvelo.annotated.storable_columns import storable_name
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.dynamics import (
    SteadyState,
    neighborhood_weights,
    second_moments,
    stochastic_steady_state,
)
from jaxvelo.tl._dynamical_velocity import Limits, write_dynamical_velocity
from jaxvelo.tl._moment_layers import moments_on_disk, read_counts
from jaxvelo.tl._steady_states_on_disk import SteadyStateOptions, steady_states_on_disk
from jaxvelo.tl._velocity_genes import default_floats, find_velocity_genes, fit_steady_state, highly_variable

_MODELS = ("evidence", "curve")
_MODES = ("stochastic", "deterministic", "steady_state", "dynamical")


@accepts_data
def velocity(
    adata: AnnData,
    vkey: str = "velocity",
    mode: str = "stochastic",
    fit_offset: bool = False,
    fit_offset2: bool = False,
    *,
    model: str = "evidence",
    groups: str | Sequence[str] | None = None,
    groupby: str | None = None,
    perc: tuple[float, float] | float | None = (5, 95),
    min_r2: float = 0.01,
    min_ratio: float = 0.01,
    min_likelihood: float | None = 1e-3,
    r2_adjusted: bool | None = None,
    use_highly_variable: bool = True,
    diff_kinetics: bool | str | None = None,
    neighbors_key: str | None = None,
    memory_limit: int | float | str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Estimate RNA velocities with a steady-state model, or take them from the dynamical model.

    Steady-state models: each gene gets the line :math:`u = \gamma s` of its steady states from its extreme cells;
    velocity is the distance from it, :math:`u - \gamma s`. In the stochastic model the second moments enter as well; it
    is fitted for the velocity genes, the others keep the deterministic fit. The formulas are in
    :func:`jaxvelo.dynamics.steady_state` and :func:`jaxvelo.dynamics.stochastic_steady_state`. Velocity genes have
    :math:`r^2` > ``min_r2``, :math:`\gamma` > ``min_ratio`` (both of the deterministic fit), and spliced and unspliced
    counts. If fewer than two genes do, the fifth of all genes with the highest :math:`r^2` is taken, with a warning.

    Dynamical model: velocities are those of ``layers["fit_velocity"]``, of the models that have evidence for each gene
    (see :func:`jaxvelo.tl.recover_dynamics`). With ``model="curve"``, and for genes that have none, or none of the
    rates that stand in ``adata.var`` (with a warning), they are those of the fitted curves,
    :math:`\beta u - \gamma s` with the gene on and off, weighted by the probability of both
    (``layers["fit_on"]``; for genes without it, or with that of other rates, at the times in ``layers["fit_t"]``). They
    are not less than
    :math:`-s`. Velocity genes have a likelihood > ``min_likelihood``,
    :math:`r^2` > ``min_r2`` of a line through all cells, and a steady-state ratio of unspliced to spliced counts
    between the smaller of its tenth percentile and 0.03 and the larger of its ninetieth and 3.

    Moments that are on disk, as :func:`jaxvelo.pp.moments` leaves those of counts on disk, stay there: they are read in
    blocks of genes for the fits, once more in blocks of cells for the velocities, and these are written to files of
    their own. They equal those of moments in memory to the last bit. Made again after it was
    interrupted, the same call goes on where it was left.

    Parameters
    ----------
    adata
        First moments in ``adata.layers["Ms"]`` and ``["Mu"]`` (see :func:`jaxvelo.pp.moments`). The stochastic model
        also needs ``adata.layers["spliced"]``, ``["unspliced"]`` and ``adata.obsp["connectivities"]``, the dynamical
        model the fit of :func:`jaxvelo.tl.recover_dynamics` (or of scVelo).
    vkey
        Key of the results.
    mode
        ``"stochastic"``, ``"deterministic"``, also called ``"steady_state"``, or ``"dynamical"``.
    fit_offset, fit_offset2
        Whether to fit an offset for the first, and for the second moments.
    model
        Which velocities the dynamical model gives: ``"evidence"``, or ``"curve"`` for those of the curves alone.
    groups
        Names of groups of ``adata.obs[groupby]``: steady-state models are fitted to their cells alone, and give these
        velocities alone. The dynamical model, fitted before, does not heed them, with a warning.
    groupby
        Key of the groups; the clustering ``"clusters"`` or ``"louvain"`` if None. Without ``groups``, each group gets a
        fit of its own.
    perc
        Lower and upper percentile of the extreme cells; the lower one is used with ``fit_offset`` only. A single
        number is the upper one. None means (5, 95), as in scVelo.
    min_r2, min_ratio
        Thresholds of the velocity genes.
    min_likelihood
        Threshold of the velocity genes of the dynamical model; None for none.
    r2_adjusted
        Whether to take :math:`r^2` from a fit on all cells.
    use_highly_variable
        Whether velocity genes must be in ``adata.var["highly_variable"]``, where that is present.
    diff_kinetics
        Whether genes get no velocity, zero, in the groups of cells that have kinetics of their own
        (:func:`jaxvelo.tl.differential_kinetic_test`); or the name of a column of ``adata.var`` like
        ``"fit_diff_kinetics"``, names of groups joined by commas. With ``model="evidence"``, genes whose velocity is
        that of gradual transcription keep it, as such a test is against a curve that they do not follow.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    memory_limit
        Memory for blocks of moments that are on disk, besides the graph: bytes, or a text such as ``"8 GiB"``; half of
        what is free if None. Without effect on moments in memory.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets

        - ``.layers[vkey]``: velocities, of shape (cells, genes),
        - ``.layers["variance_" + vkey]``: velocities of the second moment (stochastic; zero but for velocity genes),
        - ``.layers[vkey + "_u"]``: velocities of the unspliced counts, of the curves (dynamical). There, genes
          without a fit have NaN velocities, and only the column ``_genes`` is written,
        - ``.var[vkey + ...]``: ``_gamma``, ``_qreg_ratio`` (deterministic gamma), ``_r2``, ``_genes``, ``_offset``,
          ``_offset2``. As in scVelo, a column with the same value for all genes is not written. Of a group by itself,
          its name is added (``"velocity_genes_Beta"``, with the sign of division, U+2215, for a slash, which no file
          can hold there), and the columns of a fit to all cells are removed,
        - ``.uns[vkey + "_params"]``: mode, ``fit_offset`` and ``perc``.

        Cells of no group that was asked for keep the velocities that they have, or get zeros.

    Raises
    ------
    KeyError
        If a layer, the neighbour graph, the groups, the fit of the dynamical model or the test of its kinetics is
        missing.
    ValueError
        If the mode or model is unknown, ``perc`` is no percentile, no group is there, the data are negative or not
        finite, a test of kinetics is of other groups or another fit, moments on disk are to be fitted by groups, or
        ``memory_limit`` is too small for one block of them.
    OSError
        If layers on disk cannot be read or written.

    Notes
    -----
    Equal to scVelo 0.3.4, but for ``use_highly_variable=False``, which scVelo accepts and does not heed, and for the
    dynamical model: without a fit, scVelo falls back to the stochastic model; with one, it decides for one of both
    branches, and it takes the scaling for what is here the steady-state ratio when it selects genes. With
    ``diff_kinetics``, scVelo sets the same velocities to zero (those of the unspliced counts, too, and not those of the
    second moments); it does nothing without a test, and looks up the groups of a column of another name in
    ``obs["clusters"]``, here in those that were tested.

    On simulated cells of which a quarter of the genes were given other rates in one fate, ``diff_kinetics`` brought the
    cosine of the curve's velocities with the true ones from 0.33 to 0.36 and from 0.57 to 0.58, that of the default's
    from 0.55 to 0.57 and from 0.873 to 0.863 (to 0.762 if genes of gradual transcription were set to zero, too).

    References
    ----------
    La Manno et al. (2018); Bergen et al. (2020).

    Examples
    --------
    >>> jv.tl.velocity(adata, mode="stochastic")
    >>> adata.layers["velocity"].shape, adata.var["velocity_genes"].dtype == bool
    ((150, 40), True)
    """
    require_no_copy(require_anndata(adata), copy)
    if mode not in _MODES:
        raise ValueError(f"Expected `mode` to be one of {_MODES}, found `{mode!r}`.")
    if model not in _MODELS:
        raise ValueError(f"Expected `model` to be one of {_MODELS}, found `{model!r}`.")
    percentiles = _percentiles((5, 95) if perc is None else perc)
    parts = parts_of(adata, groupby, groups)
    others = _other_kinetics(adata, diff_kinetics)
    if mode == "dynamical":
        if groupby is not None or groups is not None:
            logger.warning("The dynamical model is not fitted here: `groupby` and `groups` are without effect")
        result = adata.copy() if copy else adata
        limits = Limits(percentiles, fit_offset, min_r2, min_likelihood)
        write_dynamical_velocity(result, vkey, limits, model == "evidence", others, memory_limit)
        return result if copy else None
    on_disk = moments_on_disk(adata, with_counts=mode == "stochastic")
    if on_disk and (others or not (len(parts) == 1 and parts[0].cells.all())):
        raise ValueError(
            "Expected moments in memory to fit groups of cells, or to heed kinetics of their own, found them on disk. "
            "Leave out `groups`, `groupby` and `diff_kinetics`, or load the data as `adata.to_memory()`."
        )
    allowed = highly_variable(adata) if use_highly_variable else np.ones(adata.n_vars, dtype=bool)
    if not on_disk:
        spliced, unspliced = read_counts(adata, "Ms"), read_counts(adata, "Mu")
        for name in ("spliced", "unspliced") if mode == "stochastic" else ():
            read_counts(adata, name)
    if mode == "stochastic":
        graph = read_neighbor_graph(adata, "connectivities", neighbors_key)

    def chosen(fit: SteadyState, s: np.ndarray, u: np.ndarray, label: str = "") -> np.ndarray:
        genes = find_velocity_genes(fit, s, u, allowed, min_r2, min_ratio)
        if genes.sum() < 10:
            logger.warning("Found only %d velocity genes%s. Consider a lower `min_r2`.", genes.sum(), label)
        return genes

    def fitted_to(part: Part) -> _SteadyStates:
        s, u = (moments if part.cells.all() else moments[part.cells] for moments in (spliced, unspliced))
        fit = fit_steady_state(s, u, percentiles, fit_offset, bool(r2_adjusted))
        r2, ratio = np.asarray(fit.r2), np.asarray(fit.gamma)
        genes = chosen(fit, s, u, part.label)
        dtype = np.result_type(spliced.dtype, np.float32)
        columns = {"gamma": ratio.astype(dtype), "offset": np.array(fit.offset, dtype=dtype)}
        layers = {vkey: np.require(fit.residual, dtype, "W")}

        if mode == "stochastic":
            fitted = genes if genes.any() else np.ones_like(genes)
            counts = (adata.layers[name][:, fitted] for name in ("spliced", "unspliced"))
            weights = neighborhood_weights(part.within(graph))
            second = second_moments(weights, *(x if part.cells.all() else x[part.cells] for x in counts))
            stochastic = stochastic_steady_state(
                *(default_floats(moment) for moment in (s[:, fitted], u[:, fitted], *second)),
                percentiles=percentiles,
                fit_offset=fit_offset,
                fit_offset2=fit_offset2,
            )
            columns["offset2"] = np.zeros(adata.n_vars, dtype=dtype)
            for name in ("gamma", "offset", "offset2"):
                columns[name][fitted] = np.asarray(getattr(stochastic, name))
            layers[vkey][:, fitted] = np.asarray(stochastic.residual)
            layers[f"variance_{vkey}"] = np.zeros(s.shape, dtype=dtype)
            layers[f"variance_{vkey}"][:, fitted] = np.asarray(stochastic.residual2)
        return _SteadyStates(
            columns | {"qreg_ratio": ratio.astype(dtype), "r2": r2.astype(np.float64), "genes": genes}, layers
        )

    with timed(f"Computing velocities ({mode})"):
        if on_disk:
            options = SteadyStateOptions(percentiles, fit_offset, fit_offset2, bool(r2_adjusted))
            weights = neighborhood_weights(graph) if mode == "stochastic" else None
            budget = bytes_of(memory_limit)
            found = [_SteadyStates(*steady_states_on_disk(adata, vkey, options, weights, chosen, budget))]
        else:
            found = [fitted_to(part) for part in parts]

    result = adata.copy() if copy else adata
    for key in found[0].layers:
        result.layers[key] = _joined(adata, key, parts, [of_part.layers[key] for of_part in found])
    fitted_cells = np.any([part.cells for part in parts], axis=0)  # the others keep what they have
    others = [(cells[fitted_cells[cells]], genes) for cells, genes in others]
    for cells, genes in others:
        block = result.layers[vkey][np.ix_(cells, genes)]
        result.layers[vkey][np.ix_(cells, genes)] = np.where(np.isnan(block), block, 0)
    _write_columns(result, vkey, parts, found)
    perc_written = list(percentiles) if isinstance(percentiles, tuple) else percentiles
    result.uns[f"{vkey}_params"] = {"mode": mode, "fit_offset": fit_offset, "perc": perc_written}
    return result if copy else None


class _SteadyStates(NamedTuple):
    """Columns of ``adata.var``, without the key of the velocity, and layers, of the cells that were fitted."""

    columns: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]


def _other_kinetics(adata: AnnData, diff_kinetics: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cells and genes of each group with kinetics of its own; none if they are not asked for."""
    if diff_kinetics is None or diff_kinetics is False:
        return []
    if diff_kinetics is not True and not isinstance(diff_kinetics, str):
        raise ValueError(
            f"Expected `diff_kinetics` to be True, False or the name of a column of `adata.var`, found "
            f"`{diff_kinetics!r}`."
        )
    return read_other_kinetics(adata, GROUPS if diff_kinetics is True else diff_kinetics)


def _joined(adata: AnnData, key: str, parts: list[Part], layers: list[np.ndarray]) -> np.ndarray:
    """Layer of all cells; those of no part keep what is there."""
    if len(parts) == 1 and parts[0].cells.all():
        return layers[0]
    dtype = layers[0].dtype
    joined = dense(adata.layers[key]).astype(dtype) if key in adata.layers else np.zeros(adata.shape, dtype=dtype)
    for part, layer in zip(parts, layers, strict=True):
        joined[part.cells] = layer
    return joined


def _write_columns(adata: AnnData, vkey: str, parts: list[Part], found: list[_SteadyStates]) -> None:
    """Write what was fitted; a column that is the same for all genes says nothing, and one of a former fit is wrong."""
    names = ("offset", "offset2", "gamma", "qreg_ratio", "r2", "genes")
    columns: dict[str, np.ndarray | None] = {f"{vkey}_{name}": None for name in names}
    for part, of_part in zip(parts, found, strict=True):
        for name in names:
            column = of_part.columns.get(name)
            says_nothing = column is None or len(np.unique(column)) < 2
            of_group = "" if part.group is None else f"_{part.group}"
            columns[storable_name(f"{vkey}_{name}{of_group}")] = None if says_nothing else column
    for key, column in columns.items():
        if column is not None:
            adata.var[key] = column
        elif key in adata.var:
            del adata.var[key]


def _percentiles(perc: Any) -> tuple[float, float] | float:
    """Check the percentiles."""
    values = np.atleast_1d(perc)
    if values.dtype.kind not in "iuf" or values.size > 2 or not np.all((values >= 0) & (values <= 100)):
        raise ValueError(f"Expected `perc` to be one percentile or two, from 0 to 100, found `{perc!r}`.")
    if values.size == 1:
        return values[0].item()
    if values[0] > values[1]:
        raise ValueError(f"Expected the lower percentile in `perc` first, found `{perc!r}`.")
    return values[0].item(), values[1].item()
