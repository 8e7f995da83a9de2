"""Cells whose genes regulate each other, of which everything is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.datasets._fate_tree import INTERMEDIATE, PROGENITOR
from jaxvelo.datasets._network_trajectories import STEP, Kinetics, NetworkState, levels, network_trajectories, signal
from jaxvelo.datasets._regulatory_network import RegulatoryNetwork, backbone_of, n_factors, regulatory_network
from jaxvelo.datasets._simulate import FATE_COLORS, TRUNK_COLORS, check_counts

if TYPE_CHECKING:
    from anndata import AnnData

END = 120.0  # hours
N_STEPS = round(END / STEP)
# Of unspliced molecules, relative to spliced ones: median of the genes, and deviation of the logarithm.
CAPTURE, CAPTURE_SPREAD = 0.5, 0.3
# Counts of a whole cell at median depth, of which the genes are a small part.
SPLICED_SIZE, UNSPLICED_SIZE = 6000, 1200
# A cell is committed when its leading fate's protein is ahead by so much of its full level, for good.
LEAD = 0.3
# Simulations from which fate probabilities are taken, and how many of them for a cell.
N_OTHERS, N_ALIKE = 1000, 50


def simulate_network(
    n_cells: int = 2000,
    n_genes: int = 100,
    n_branches: int = 2,
    *,
    n_simulations: int = 100,
    unspliced_fraction: float = 0.18,
    counts_per_gene: float = 2.0,
    depth_spread: float = 0.25,
    seed: int = 0,
) -> AnnData:
    r"""Simulate cells whose genes regulate each other, of which everything is known.

    Here transcription changes gradually, with the regulators, and never jumps as in :func:`simulate`. Every simulation
    is one cell's life of 120 hours, from which cells are taken at several times. Gene :math:`g` is transcribed,
    spliced and degraded one molecule at a time, and proteins of the transcription factors follow their spliced
    molecules:

    .. math::
        \emptyset \xrightarrow{\alpha_g f_g(y)} u_g \xrightarrow{\beta_g} s_g \xrightarrow{\gamma_g} \emptyset,
        \qquad \dot y_r = \delta_r \Big(\frac{\gamma_r}{\alpha_r} s_r - y_r\Big),

    where :math:`f_g` is a product of Hill functions of the regulators' proteins :math:`y`. A signal starts a cascade of
    three factors, which represses those of the start and ends at one deciding factor for each fate. These keep
    themselves on and repress each other, so that noise decides which one wins; it switches on a cascade of its own.
    The other genes are targets of up to three factors, drawn at random with thresholds, steepness (Hill coefficients 1
    to 3) and signs; one in ten is always on. Each seed has another network with other rates. Half-lives of spliced
    molecules are 3 hours (median), of proteins 6 hours; :math:`\log(\gamma/\beta)` has a standard deviation of 0.5.

    Molecules are counted with a depth per cell, unspliced ones with an efficiency per gene as well (median one half).
    Counts are Poisson around that. The genes are part of a transcriptome whose size stays the same.

    Parameters
    ----------
    n_cells
        Number of cells, at least 10 for each fate; spread evenly over time.
    n_genes
        Number of genes, at least 6 more than three for each fate.
    n_branches
        Number of fates, 2 or 3, named ``"Fate A"`` and so on. All have the same chance.
    n_simulations
        Number of independent simulations, between 10 and ``n_cells``; all give as many cells (up to one).
    unspliced_fraction
        Share of unspliced counts of a gene at steady state, in the median of the genes.
    counts_per_gene
        Mean number of counts (spliced and unspliced) of a cell and gene.
    depth_spread
        Standard deviation of the logarithm of the cells' sequencing depth.
    seed
        Seed of :func:`numpy.random.default_rng`; same seed, same network and data.

    Returns
    -------
    AnnData
        With ``X`` equal to the spliced counts, and

        - ``layers["spliced"]``, ``layers["unspliced"]``: counts, CSR, float32;
        - ``layers["true_spliced"]``, ``layers["true_unspliced"]``: molecules per cell that are expected, given the
          transcription rates that the cell has gone through, and ``layers["true_velocity"]``: their
          :math:`\dot s = \beta u - \gamma s`, in molecules per hour. This, and not the slope of a cell's own few
          molecules, is what can be known from cells that resemble each other;
        - ``layers["spliced_molecules"]``, ``layers["unspliced_molecules"]``: the molecules that the cell has, whole
          numbers; ``layers["true_transcription"]``: :math:`\alpha_g f_g(y)`, in molecules per hour;
        - ``var["true_alpha"]`` (molecules per hour at full transcription), ``var["true_beta"]``, ``var["true_gamma"]``
          (per hour), ``var["true_log_ratio"]`` (:math:`\log(\gamma/\beta)`), ``var["true_capture"]`` (efficiency for
          unspliced molecules, relative to spliced ones: what ``fit_scaling`` should be), ``var["program"]`` (the name
          of a factor, ``"target"``, or ``"constant"``);
        - ``varm["regulation"]`` of shape (genes, factors): 1 where the factor activates the gene, -1 where it represses
          it, in the order of ``uns["simulation"]["factors"]``, which is that of the first genes;
        - ``obs["true_time"]`` (hours), ``obs["simulation"]``, ``obs["lineage"]`` (the fate that the simulation comes
          to), ``obs["true_fate"]`` (the same from the time on at which its deciding protein stays ahead of the others
          by 0.3, missing before), ``obs["true_depth"]`` (counts per spliced molecule), ``obs["clusters"]`` (progenitor,
          intermediate when the cascade has come to its end, and fates), ``obs["initial_size"]``,
          ``obs["initial_size_spliced"]``, ``obs["initial_size_unspliced"]``: counts of the whole transcriptome, by
          which :func:`jaxvelo.pp.filter_and_normalize` normalises;
        - ``obsm["true_fate_probabilities"]`` of shape (cells, fates): shares of the fates among the 50 of 1,000 other
          simulations of the same network whose deciding factors are the most alike at that time, which has a standard
          error of up to 0.07;
        - ``obsp["true_future"]``: 1 where the column is the next cell of the row's simulation (CSR, float32);
        - ``uns["clusters_colors"]``, and ``uns["simulation"]``: the arguments, ``factors``, ``end_time`` in hours, and
          ``normalized_per_molecule``.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    :func:`jaxvelo.pp.filter_and_normalize` divides by the sizes above, so that normalised counts are molecules times
    one factor for all cells and genes, ``uns["simulation"]["normalized_per_molecule"]`` (unspliced ones also times
    ``var["true_capture"]``). So a velocity that is estimated from them is in units of ``true_velocity`` times that
    factor, for any gene up to its unit of time. Compare by the cosine over genes after dividing each gene of both by
    the deviation of its spliced counts, and by the correlation over cells, gene by gene, which no unit changes.

    References
    ----------
    Cannoodt et al., Spearheading future omics analyses using dyngen, a multi-modal simulator of single cells, Nature
    Communications 2021, for backbones of modules; Dibaeinia & Sinha, SERGIO, Cell Systems 2020, for Hill functions of
    several regulators.

    Examples
    --------
    >>> adata = jv.datasets.simulate_network(n_cells=40, n_genes=30, n_simulations=10, seed=0)
    >>> adata.shape, sorted(adata.obs["true_fate"].cat.categories)
    ((40, 30), ['Fate A', 'Fate B'])
    """
    _check_network(n_cells, n_genes, n_branches, n_simulations, unspliced_fraction, counts_per_gene, depth_spread)
    import pandas as pd
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    network = regulatory_network(rng, n_genes, n_branches)
    ratio = rng.lognormal(np.log(unspliced_fraction / (1 - unspliced_fraction) / CAPTURE), 0.5, n_genes)
    capture = rng.lognormal(np.log(CAPTURE), CAPTURE_SPREAD, n_genes)
    kinetics = _rates(rng, network, ratio)

    # Cells of any time are spread evenly over the simulations, and those of any simulation over time.
    times = (np.arange(n_cells) + rng.uniform(size=n_cells)) / n_cells * END
    rounds = -(-n_cells // n_simulations)
    simulation = np.concatenate([rng.permutation(n_simulations) for _ in range(rounds)])[:n_cells]
    order = rng.permutation(n_cells)
    step, simulation = (times[order] // STEP).astype(int), simulation[order]
    state, proteins = _visit(rng, network, kinetics, step, simulation, n_simulations)
    deciding = list(network.deciding)
    probabilities = _fate_probabilities(rng.spawn(1)[0], network, kinetics, step, state)
    lineage = proteins[-1][:, deciding].argmax(axis=1)
    committed = step >= _commitment(proteins[:, :, deciding])[simulation]

    transcription = kinetics.alpha * network.activity(levels(state.protein, signal(step * STEP)))
    velocity = kinetics.beta * state.mean_unspliced - kinetics.gamma * state.mean_spliced
    depth = rng.lognormal(0.0, depth_spread, n_cells)
    molecules = capture * state.unspliced + state.spliced
    depth *= counts_per_gene / np.mean(depth[:, None] * molecules)
    relative = depth / np.median(depth)
    layers = {
        "spliced": sp.csr_matrix(rng.poisson(depth[:, None] * state.spliced).astype(np.float32)),
        "unspliced": sp.csr_matrix(rng.poisson(depth[:, None] * capture * state.unspliced).astype(np.float32)),
        "spliced_molecules": state.spliced.astype(np.float32),
        "unspliced_molecules": state.unspliced.astype(np.float32),
        "true_spliced": state.mean_spliced.astype(np.float32),
        "true_unspliced": state.mean_unspliced.astype(np.float32),
        "true_transcription": transcription.astype(np.float32),
        "true_velocity": velocity.astype(np.float32),
    }
    regulated = network.sign != 0
    regulation = np.zeros((n_genes, 1 + len(network.factors)), dtype=int)
    regulation[np.nonzero(regulated)[0], network.regulator[regulated]] = network.sign[regulated]
    programs = np.where(regulated.any(axis=1), "target", "constant").astype(object)
    programs[: len(network.factors)] = network.factors
    fates = [f"Fate {chr(ord('A') + i)}" for i in range(n_branches)]
    started = (proteins[:, :, network.factors.index("trunk 3")] > 0.25).argmax(axis=0)
    clusters = np.where(committed, 2 + lineage[simulation], (step >= started[simulation]).astype(int))
    sizes = {
        name: rng.poisson(relative * size) for name, size in (("spliced", SPLICED_SIZE), ("unspliced", UNSPLICED_SIZE))
    }
    obs = pd.DataFrame(
        {
            "clusters": pd.Categorical.from_codes(clusters, [PROGENITOR, INTERMEDIATE, *fates]),
            "simulation": pd.Categorical(simulation),
            "lineage": pd.Categorical.from_codes(lineage[simulation], fates),
            "true_fate": pd.Categorical.from_codes(np.where(committed, lineage[simulation], -1), fates),
            "true_time": step * STEP,
            "true_depth": depth,
            "initial_size": sizes["spliced"],
            "initial_size_spliced": sizes["spliced"],
            "initial_size_unspliced": sizes["unspliced"],
        },
        index=[f"cell_{i:0{len(str(n_cells - 1))}d}" for i in range(n_cells)],
    )
    var = pd.DataFrame(
        {
            "true_alpha": kinetics.alpha,
            "true_beta": kinetics.beta,
            "true_gamma": kinetics.gamma,
            "true_log_ratio": np.log(kinetics.gamma / kinetics.beta),
            "true_capture": capture,
            "program": pd.Categorical(programs),
        },
        index=[f"gene_{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)],
    )
    return AnnData(
        X=layers["spliced"].copy(),
        layers=layers,
        obs=obs,
        var=var,
        obsm={"true_fate_probabilities": probabilities},
        varm={"regulation": regulation[:, 1:]},
        obsp={"true_future": _next_cells(step, simulation)},
        uns={
            "clusters_colors": [*TRUNK_COLORS, *FATE_COLORS[:n_branches]],
            "simulation": {
                "unspliced_fraction": unspliced_fraction,
                "counts_per_gene": counts_per_gene,
                "depth_spread": depth_spread,
                "n_simulations": n_simulations,
                "seed": seed,
                "end_time": END,
                "factors": list(network.factors),
                "normalized_per_molecule": float(np.median(sizes["spliced"]) / SPLICED_SIZE * np.median(depth)),
            },
        },
    )


def _rates(rng: np.random.Generator, network: RegulatoryNetwork, ratio: Float[np.ndarray, " genes"]) -> Kinetics:
    """Draw rates of all genes; the factors that decide between the fates have the same ones."""
    n_genes, n_backbone, deciding = len(ratio), len(network.factors), list(network.deciding)
    gamma = rng.lognormal(np.log(np.log(2) / 3.0), 0.4, n_genes)  # half-lives of 3 hours
    full = rng.lognormal(np.log(40.0), 0.6, n_genes)
    full[:n_backbone] = rng.lognormal(np.log(60.0), 0.3, n_backbone)
    delta = rng.lognormal(np.log(np.log(2) / 6.0), 0.2, n_backbone)
    ratio = ratio.copy()
    for rate in (ratio, gamma, full, delta):
        rate[deciding] = rate[deciding[0]]
    return Kinetics(gamma * full, gamma / ratio, gamma, delta)


def _visit(
    rng: np.random.Generator,
    network: RegulatoryNetwork,
    kinetics: Kinetics,
    step: Int[np.ndarray, " cells"],
    simulation: Int[np.ndarray, " cells"],
    n_simulations: int,
) -> tuple[NetworkState, Float[np.ndarray, "steps simulations factors"]]:
    """Simulate, and take each cell's state from its simulation at its time; and all proteins."""
    parts, order, proteins = [], [], []
    for now, state in enumerate(network_trajectories(rng, network, kinetics, n_simulations, N_STEPS)):
        proteins.append(state.protein)
        cells = np.flatnonzero(step == now)
        order.append(cells)
        parts.append([x[simulation[cells]] for x in state])
    back = np.argsort(np.concatenate(order))
    return NetworkState(*(np.concatenate(x)[back] for x in zip(*parts, strict=True))), np.stack(proteins)


def _commitment(proteins: Float[np.ndarray, "steps simulations fates"]) -> Int[np.ndarray, " simulations"]:
    """Give the step from which on the fate of the end is ahead, for each simulation."""
    winner = proteins[-1].argmax(axis=-1)
    ahead = np.take_along_axis(proteins, winner[None, :, None], axis=-1)[..., 0]
    others = np.where(np.arange(proteins.shape[-1]) == winner[:, None], -np.inf, proteins).max(axis=-1)
    behind = ahead - others < LEAD
    return len(proteins) - behind[::-1].argmax(axis=0)


def _fate_probabilities(
    rng: np.random.Generator,
    network: RegulatoryNetwork,
    kinetics: Kinetics,
    step: Int[np.ndarray, " cells"],
    state: NetworkState,
) -> Float[np.ndarray, "cells fates"]:
    """Give the shares of the fates among simulations that are like each cell at its time, in the deciding factors."""
    n_backbone, deciding = len(network.factors), list(network.deciding)
    backbone = Kinetics(
        kinetics.alpha[:n_backbone], kinetics.beta[:n_backbone], kinetics.gamma[:n_backbone], kinetics.delta
    )

    def place(state: NetworkState) -> np.ndarray:
        full = backbone.alpha[deciding]
        parts = (
            state.unspliced[:, deciding] * backbone.beta[deciding] / full,
            state.spliced[:, deciding] * backbone.gamma[deciding] / full,
            state.protein[:, deciding],
        )
        return np.concatenate(parts, axis=1)

    cell_places = place(state)
    alike = np.empty((len(step), N_ALIKE), dtype=int)
    for now, others in enumerate(network_trajectories(rng, backbone_of(network), backbone, N_OTHERS, N_STEPS)):
        cells = np.flatnonzero(step == now)
        distance = ((cell_places[cells, None] - place(others)) ** 2).sum(axis=-1)
        alike[cells] = np.argpartition(distance, N_ALIKE, axis=1)[:, :N_ALIKE]
    fate = others.protein[:, deciding].argmax(axis=1)
    return (fate[alike][..., None] == np.arange(len(deciding))).mean(axis=1)


def _next_cells(step: Int[np.ndarray, " cells"], simulation: Int[np.ndarray, " cells"]) -> sp.csr_matrix:
    """Mark the next cell of each cell's simulation, or the next ones if they are of the same time."""
    visits, visit = np.unique(np.stack([simulation, step], axis=1), axis=0, return_inverse=True)
    is_of = sp.csr_matrix((np.ones(len(step), dtype=np.float32), (np.arange(len(step)), visit.ravel())))
    goes_on = (visits[1:, 0] == visits[:-1, 0]).astype(np.float32)
    return sp.csr_matrix(is_of @ sp.diags_array(goes_on, offsets=1, shape=(len(visits), len(visits))) @ is_of.T)


def _check_network(
    n_cells: Any,
    n_genes: Any,
    n_branches: Any,
    n_simulations: Any,
    unspliced_fraction: Any,
    counts_per_gene: Any,
    depth_spread: Any,
) -> None:
    """Raise if an argument of :func:`simulate_network` makes no sense."""
    if isinstance(n_branches, bool) or not isinstance(n_branches, int | np.integer) or n_branches not in (2, 3):
        raise ValueError(f"Expected `n_branches` to be 2 or 3, found `{n_branches!r}`.")
    for name, value, least, why in (
        ("n_cells", n_cells, 10 * n_branches, "10 for each fate"),
        ("n_genes", n_genes, n_factors(int(n_branches)) + 1, "one more than transcription factors"),
        ("n_simulations", n_simulations, 10, "fewer do not come to every fate"),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"Expected `{name}` to be an integer, found `{value!r}`.")
        if value < least:
            raise ValueError(f"Expected `{name}` to be at least {least} ({why}), found `{value}`.")
    if n_simulations > n_cells:
        raise ValueError(f"Expected `n_simulations` to be at most `n_cells` ({n_cells}), found `{n_simulations}`.")
    check_counts(unspliced_fraction, counts_per_gene, depth_spread=depth_spread)
