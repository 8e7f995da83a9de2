"""Cells on a branching splicing process of which everything is known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import is_number
from jaxvelo.annotated.rows_at_a_time import rows_at_a_time
from jaxvelo.datasets._fate_tree import (
    BRANCHING,
    COMMITTED,
    END,
    INTERMEDIATE,
    PROGENITOR,
    Branch,
    FateTree,
    fate_tree,
)
from jaxvelo.datasets._growing_file import checked_path, growing_file
from jaxvelo.datasets._splicing_state import splicing_state
from jaxvelo.datasets._tree_map import expression_path, tree_map

if TYPE_CHECKING:
    from anndata import AnnData

TRUNK_COLORS = ("#8fb996", "#f2b36d")
# Values (cells times genes) of a block, and of one whose intermediate results stay in the processor's cache.
BLOCK_VALUES, CACHED_VALUES = 1 << 22, 1 << 13
FATE_COLORS = ("#3b76af", "#c8553d", "#7a5195", "#2a9d8f", "#e9c46a", "#ef7fae", "#8c6d46", "#5c677d")


def simulate(
    n_cells: int = 1000,
    n_genes: int = 200,
    n_branches: int | None = None,
    *,
    tree: tuple[Any, ...] | None = None,
    fractions: Sequence[float] | None = None,
    unspliced_fraction: float = 0.18,
    counts_per_gene: float = 2.0,
    dispersion: float = 0.1,
    depth_spread: float = 0.25,
    seed: int = 0,
    true_layers: bool = True,
    path: str | Path | None = None,
) -> AnnData:
    r"""Simulate cells on a branching splicing process of which everything is known.

    A cell of lineage :math:`l` at time :math:`t` follows, for every gene, the kinetics of transcription, splicing and
    degradation

    .. math::
        \dot u = \alpha_l(t) - \beta u, \qquad \dot s = \beta u - \gamma s,

    where :math:`\alpha_l(t)` is the gene's transcription rate :math:`\alpha` while it is switched on in that lineage
    and 0 otherwise. The solution is in closed form between two switches. All lineages share one trunk (0 to 10 h) and
    then go to one fate each (10 to 24 h), at once or, with ``tree``, in steps: some genes are switched off along the
    trunk, some are on for a while, some are switched on in one branch only and stay on in all fates that it leads to,
    and some are always on. Counts are Poisson draws with a depth per cell, after gamma-distributed noise per cell and
    gene (so they are negative binomial).

    Parameters
    ----------
    n_cells
        Number of cells, at least 10, and for each fate at least 5 times the number of branchings on the longest way
        to a fate. The cells of a lineage are spread evenly over time.
    n_genes
        Number of genes, at least 3 more than branches.
    n_branches
        Number of fates, 1 to 26, named ``"Fate A"`` and so on, that all part at 10 h; 2 unless ``tree`` is given.
    tree
        The fates by name, where some part later than others: a tuple of two or more branches, each the name of a fate
        or such a tuple again. In ``(("Alpha", "Beta"), "Delta")``, Delta leaves at 10 h, and Alpha and Beta part at
        17 h. The time between 10 h and the end is shared evenly by the branches on the longest way to a fate; so in
        ``((("A", "B"), "C"), ("D", "E"))``, A and B part at 19.3 h, C leaves them at 14.7 h, D and E part at 17 h.
    fractions
        Share of the cells that go to each fate, in the order in which ``tree`` names them; positive, with sum 1.
        Without, all fates have the same.
    unspliced_fraction
        Share of unspliced molecules that a gene at steady state has on average; data of 10x Genomics have 15 to 25 %.
    counts_per_gene
        Mean number of counts (spliced and unspliced) of a cell and gene. The default gives the sparsity of the velocity
        genes of the pancreas data: about half of the spliced and 80 % of the unspliced counts are 0.
    dispersion
        Squared coefficient of variation of the gamma noise; 0 leaves pure Poisson counts.
    depth_spread
        Standard deviation of the logarithm of the cells' sequencing depth.
    seed
        Seed of :func:`numpy.random.default_rng`; same seed, same data.
    true_layers
        Whether to keep the three layers of the truth. They are dense, 12 bytes for each cell and gene; without them
        everything else is the same.
    path
        File to write the data to, block by block, for data that are larger than the memory. Its ending is ``.h5ad`` or
        ``.zarr`` (version 3 of that format). It is replaced if it is there, once the new one is complete.

    Returns
    -------
    AnnData
        Without ``X`` and layers if there is a ``path``: these are in the file, with all else. Otherwise with ``X``
        equal to the spliced counts, and

        - ``layers["spliced"]``, ``layers["unspliced"]``: counts, CSR, float32;
        - ``layers["true_spliced"]``, ``layers["true_unspliced"]``: molecules per cell without any noise, and
          ``layers["true_velocity"]``: their :math:`\dot s`, in molecules per hour;
        - ``var["true_alpha"]`` (molecules per hour while switched on), ``var["true_beta"]``, ``var["true_gamma"]`` (per
          hour), ``var["program"]`` (why the gene switches: ``"fate "`` and the name of a branch, without "Fate ", for
          genes that are switched on there), and ``varm["true_on"]``, ``varm["true_off"]`` of shape (genes, fates): the
          hours between which it is on in each lineage, infinite where it never switches;
        - ``obs["true_time"]`` (hours), ``obs["lineage"]`` (the fate that the cell is heading for; before the last
          branching on its way this is drawn by ``fractions``, and its expression knows nothing of it),
          ``obs["true_fate"]`` (the same after that branching, missing before), ``obs["true_depth"]`` (counts per
          molecule), ``obs["clusters"]`` (two on the trunk, then one for each branch; a branch that leads to several
          fates is called ``"Alpha or Beta"``);
        - ``obsm["true_fate_probabilities"]`` of shape (cells, fates): ``fractions`` on the trunk; on an inner branch
          those of its fates, divided by their sum, and 0 for the others; 0 or 1 after the last branching;
        - ``obsm["X_umap"]`` and ``obsm["X_umap3d"]``: a map of the tree, laid out by how far the noise-free expression
          has travelled, with ``uns["clusters_colors"]`` to draw it. (It stands where a UMAP would, so that examples
          look the same on every machine.)
        - ``uns["simulation"]``: the arguments and ``branching_time``, ``end_time`` in hours; with ``tree``, also
          ``branching_times``, a dictionary from the name of an inner branch to the hour at which it branches.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``path`` has another ending.
    OSError
        If the file cannot be written.

    References
    ----------
    La Manno et al., RNA velocity of single cells, Nature 2018, for the kinetics; Bergen et al., Generalizing RNA
    velocity to transient cell states through dynamical modeling, Nature Biotechnology 2020, for their solution.

    Examples
    --------
    >>> adata = jv.datasets.simulate(n_cells=60, n_genes=20, tree=(("Alpha", "Beta"), "Delta"), seed=0)
    >>> adata.shape, list(adata.obs["true_fate"].cat.categories)
    ((60, 20), ['Alpha', 'Beta', 'Delta'])
    """
    lineages = fate_tree(n_branches, tree, fractions)
    _check_simulation(n_cells, n_genes, lineages, unspliced_fraction, counts_per_gene, dispersion, depth_spread)
    file = None if path is None else checked_path(path)
    import pandas as pd
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    programs, on, off = _switch_times(rng, n_genes, lineages)
    beta = rng.lognormal(0.0, 0.25, n_genes)
    gamma = beta * rng.lognormal(np.log(unspliced_fraction / (1 - unspliced_fraction)), 0.3, n_genes)
    alpha = gamma * rng.lognormal(np.log(10.0), 0.6, n_genes)  # alpha / gamma is the spliced steady state

    lineage = rng.permutation(lineages.fates_of_cells(n_cells))
    time = _even_times(rng, lineage)
    molecules = _Molecules(time, lineage, alpha, beta, gamma, on, off)
    depth = rng.lognormal(0.0, depth_spread, n_cells) * counts_per_gene / molecules.mean()

    fates, branches = lineages.fates, lineages.branches
    branch = lineages.branch_of(time, lineage)
    clusters = np.where(time < COMMITTED, 0, 2 + branch)
    is_last = np.array([len(b.fates) == 1 for b in branches])[branch] & (branch >= 0)
    progress = expression_path(time, lineage, lineages, alpha, beta, gamma, on, off)
    obs = pd.DataFrame(
        {
            "clusters": pd.Categorical.from_codes(clusters, [PROGENITOR, INTERMEDIATE, *(b.name for b in branches)]),
            "lineage": pd.Categorical.from_codes(lineage, fates),
            "true_fate": pd.Categorical.from_codes(np.where(is_last, lineage, -1), fates),
            "true_time": time,
            "true_depth": depth,
        },
        index=[f"cell_{i:0{len(str(n_cells - 1))}d}" for i in range(n_cells)],
    )
    var = pd.DataFrame(
        {
            "true_alpha": alpha,
            "true_beta": beta,
            "true_gamma": gamma,
            "program": pd.Categorical(programs),
        },
        index=[f"gene_{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)],
    )
    asked: dict[str, Any] = {}
    if fractions is not None:
        asked["fractions"] = lineages.shares
    if tree is not None:
        asked["tree"] = repr(tree)
        asked["branching_times"] = {b.name: b.end for b in branches if len(b.fates) > 1}
    adata = AnnData(
        obs=obs,
        var=var,
        varm={"true_on": on, "true_off": off},
        uns={
            "clusters_colors": [*TRUNK_COLORS, *map(_color, branches)],
            "simulation": {
                "unspliced_fraction": unspliced_fraction,
                "counts_per_gene": counts_per_gene,
                "dispersion": dispersion,
                "depth_spread": depth_spread,
                "seed": seed,
                "branching_time": BRANCHING,
                "end_time": END,
                **asked,
            },
        },
    )
    layers = _layers(rng, molecules, depth, dispersion, true_layers)

    def of_cells() -> dict[str, np.ndarray]:
        return {
            "X_umap": tree_map(rng, progress, lineage, lineages, n_dims=2),
            "X_umap3d": tree_map(rng, progress, lineage, lineages, n_dims=3),
            "true_fate_probabilities": lineages.fate_probabilities()[branch],
        }

    if file is None:
        parts: dict[str, list[Any]] = {}
        for name, rows in layers:
            parts.setdefault(name, []).append(rows)
        for name in list(parts):
            rows = parts.pop(name)
            adata.layers[name] = sp.vstack(rows, format="csr") if sp.issparse(rows[0]) else np.concatenate(rows)
        adata.X = adata.layers["spliced"].copy()
        adata.obsm.update(of_cells())
        return adata
    with growing_file(file, adata) as growing:
        for name, rows in layers:
            growing.append(f"layers/{name}", rows)
            if name == "spliced":
                growing.append("X", rows)
        adata.obsm.update(of_cells())
        growing.write("obsm", dict(adata.obsm))
    return adata


@dataclass(frozen=True)
class _Molecules:
    """Molecules of the cells, which are computed anew whenever they are asked for."""

    time: Float[np.ndarray, " cells"]
    lineage: Int[np.ndarray, " cells"]
    alpha: Float[np.ndarray, " genes"]
    beta: Float[np.ndarray, " genes"]
    gamma: Float[np.ndarray, " genes"]
    on: Float[np.ndarray, "genes fates"]
    off: Float[np.ndarray, "genes fates"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.time), len(self.alpha)

    def of(self, cells: slice) -> tuple[Float[np.ndarray, "some genes"], Float[np.ndarray, "some genes"]]:
        """Give unspliced and spliced molecules of a slice of the cells."""
        time, lineage = self.time[cells], self.lineage[cells]
        on, off = self.on.T, self.off.T
        unspliced, spliced = (np.empty((len(time), len(self.alpha))) for _ in range(2))
        for rows in rows_at_a_time(*unspliced.shape, CACHED_VALUES):
            of = lineage[rows]
            unspliced[rows], spliced[rows] = splicing_state(
                time[rows, None], self.alpha, self.beta, self.gamma, on[of], off[of]
            )
        return unspliced, spliced

    def mean(self) -> float:
        """Mean number of molecules of a cell and gene, summed cell by cell so that it depends on no block."""
        blocks = rows_at_a_time(*self.shape, BLOCK_VALUES)
        sums = np.concatenate([np.add(*self.of(cells)).sum(axis=1) for cells in blocks])
        return float(np.mean(sums)) / len(self.alpha)


def _check_simulation(
    n_cells: Any,
    n_genes: Any,
    tree: FateTree,
    unspliced_fraction: float,
    counts_per_gene: float,
    dispersion: float,
    depth_spread: float,
) -> None:
    """Raise if an argument of :func:`simulate` makes no sense."""
    for name, value in (("n_cells", n_cells), ("n_genes", n_genes)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"Expected `{name}` to be an integer, found `{value!r}`.")
    # So many are needed for cells on every branch.
    n_fates, fewest = len(tree.fates), 5 * tree.depth
    if n_cells < max(10, fewest * n_fates):
        raise ValueError(
            f"Expected `n_cells` to be at least {max(10, fewest * n_fates)} (10, and {fewest} for each of {n_fates} "
            f"fates), found `{n_cells}`."
        )
    for fate, number in zip(tree.fates, tree.numbers_of_cells(n_cells), strict=True):
        if number < fewest:
            raise ValueError(
                f"Expected `fractions` to give every fate at least {fewest} of the {n_cells} cells, found {number} for "
                f"{fate!r}. Take more cells, or a larger fraction."
            )
    if n_genes < len(tree.branches) + 3:
        raise ValueError(
            f"Expected `n_genes` to be at least {len(tree.branches) + 3} (one for each branch and three for the "
            f"trunk), found `{n_genes}`."
        )
    check_counts(unspliced_fraction, counts_per_gene, dispersion=dispersion, depth_spread=depth_spread)


def check_counts(unspliced_fraction: Any, counts_per_gene: Any, **spreads: Any) -> None:
    """Raise if an argument makes no sense that says how many counts there are, and how they vary."""
    if not is_number(unspliced_fraction) or not 0 < unspliced_fraction < 1:
        raise ValueError(f"Expected `unspliced_fraction` to lie between 0 and 1, found `{unspliced_fraction!r}`.")
    if not is_number(counts_per_gene) or not 0 < counts_per_gene < np.inf:
        raise ValueError(f"Expected `counts_per_gene` to be positive, found `{counts_per_gene!r}`.")
    for name, value in spreads.items():
        if not is_number(value) or not 0 <= value < np.inf:
            raise ValueError(f"Expected `{name}` to be 0 or positive, found `{value!r}`.")


def _switch_times(
    rng: np.random.Generator, n_genes: int, tree: FateTree
) -> tuple[list[str], Float[np.ndarray, "genes fates"], Float[np.ndarray, "genes fates"]]:
    """Draw what each gene does, and the hours at which it is switched on and off in each lineage."""
    n_fates = len(tree.fates)
    # Half of the genes tell the branches apart, every branch has as many; the rest makes the trunk move.
    trunk_programs = ("early", "transient", "transient", "constant")
    programs, on, off = [], np.full((n_genes, n_fates), -np.inf), np.full((n_genes, n_fates), np.inf)
    n_trunk = max(3, n_genes // 2)
    for gene in range(n_genes):
        program = trunk_programs[gene % 4] if gene < n_trunk else "fate"
        # Some genes switch before the first cell, so that the first cells are on their way too.
        if program == "early":
            off[gene] = rng.uniform(-0.3, 0.9) * BRANCHING
        elif program == "transient":
            on[gene] = rng.uniform(-0.4, 0.7) * BRANCHING
            off[gene] = on[gene] + rng.uniform(0.4, 0.8) * BRANCHING
        elif program == "fate":
            branch = tree.branches[(gene - n_trunk) % len(tree.branches)]
            on[gene] = np.inf
            on[gene, list(branch.fates)] = branch.start + rng.uniform(0.0, 0.6) * (branch.end - branch.start)
            program = f"fate {branch.name.removeprefix('Fate ')}"
        programs.append(program)
    order = rng.permutation(n_genes)
    return [programs[gene] for gene in order], on[order], off[order]


def _even_times(rng: np.random.Generator, lineage: Int[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """Draw times that cover every lineage evenly: one uniform draw in each of as many bins as there are cells."""
    time = np.empty(len(lineage))
    for branch in np.unique(lineage):
        cells = np.flatnonzero(lineage == branch)
        time[cells] = (rng.permutation(len(cells)) + rng.uniform(size=len(cells))) / len(cells) * END
    return time


def _layers(
    rng: np.random.Generator, molecules: _Molecules, depth: np.ndarray, dispersion: float, true_layers: bool
) -> Iterator[tuple[str, Any]]:
    """Give the next rows of each layer, and its name. The generator is used up to the last of them."""

    def spliced(cells: slice) -> Float[np.ndarray, "some genes"]:
        return depth[cells, None] * molecules.of(cells)[1]

    def unspliced(cells: slice) -> Float[np.ndarray, "some genes"]:
        return depth[cells, None] * molecules.of(cells)[0]

    for name, mean in (("spliced", spliced), ("unspliced", unspliced)):
        for rows in _counts(rng, mean, molecules.shape, dispersion):
            yield name, rows
    for cells in rows_at_a_time(*molecules.shape, BLOCK_VALUES) if true_layers else ():
        u, s = molecules.of(cells)
        yield "true_spliced", s.astype(np.float32)
        yield "true_unspliced", u.astype(np.float32)
        yield "true_velocity", (molecules.beta * u - molecules.gamma * s).astype(np.float32)


def _counts(
    rng: np.random.Generator,
    mean_of: Callable[[slice], Float[np.ndarray, "some genes"]],
    shape: tuple[int, int],
    dispersion: float,
) -> Iterator[sp.csr_matrix]:
    """Draw negative binomial counts with variance mean + dispersion mean², block by block."""
    blocks = list(rows_at_a_time(*shape, BLOCK_VALUES))
    noise = copy.deepcopy(rng)
    # The noise of all cells is drawn before the first count. It is drawn twice, and not kept.
    for cells in blocks if dispersion > 0 else ():
        rng.gamma(1 / dispersion, dispersion, (cells.stop - cells.start, shape[1]))
    for cells in blocks:
        mean = mean_of(cells)
        if dispersion > 0:
            mean *= noise.gamma(1 / dispersion, dispersion, mean.shape)
        yield sp.csr_matrix(rng.poisson(mean).astype(np.float32))


def _color(branch: Branch) -> str:
    """Give a fate its colour, and an inner branch the mean of its fates' colours, half way to white."""
    colors = [FATE_COLORS[fate % len(FATE_COLORS)] for fate in branch.fates]
    if len(colors) == 1:
        return colors[0]
    parts = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors])
    return "#" + "".join(f"{round(0.5 * part + 0.5 * 255):02x}" for part in parts.mean(axis=0))
