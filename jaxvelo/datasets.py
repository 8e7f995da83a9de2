"""Data to start with: a simulation whose truth is known, and the pancreas data of the tutorial."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.annotated.entries import layer_names
from jaxvelo.configuration import logger
from jaxvelo.dynamics import splicing_solution

if TYPE_CHECKING:
    from anndata import AnnData

# Hours. The trunk is left at BRANCHING, every lineage ends at END; cells before COMMITTED are called progenitors.
COMMITTED, BRANCHING, END = 5.0, 10.0, 24.0

TRUNK_COLORS = ("#8fb996", "#f2b36d")
FATE_COLORS = ("#3b76af", "#c8553d", "#7a5195", "#2a9d8f", "#e9c46a", "#ef7fae", "#8c6d46", "#5c677d")

PANCREAS_URL = "https://github.com/theislab/scvelo_notebooks/raw/master/data/Pancreas/endocrinogenesis_day15.h5ad"
# As published for this file by pinellolab/pyrovelocity (io/datasets.py).
PANCREAS_SHA256 = "9e3e459eca00ba06b496ec80def32941b5b2889918720e3e7aa6ffb811fbe7c6"
PANCREAS_COLORS = {
    "Ductal": "#8fbc8f",
    "Ngn3 low EP": "#f4a460",
    "Ngn3 high EP": "#fdbf6f",
    "Pre-endocrine": "#ff7f00",
    "Beta": "#b2df8a",
    "Alpha": "#1f78b4",
    "Delta": "#6a3d9a",
    "Epsilon": "#cab2d6",
}


def simulate(
    n_cells: int = 1000,
    n_genes: int = 200,
    n_branches: int = 2,
    *,
    unspliced_fraction: float = 0.18,
    counts_per_gene: float = 2.0,
    dispersion: float = 0.1,
    depth_spread: float = 0.25,
    seed: int = 0,
) -> "AnnData":
    r"""Simulate cells on a branching splicing process of which everything is known.

    A cell of lineage :math:`l` at time :math:`t` follows, for every gene, the kinetics of transcription, splicing and
    degradation

    .. math::
        \dot u = \alpha_l(t) - \beta u, \qquad \dot s = \beta u - \gamma s,

    where :math:`\alpha_l(t)` is the gene's transcription rate :math:`\alpha` while it is switched on in that lineage
    and 0 otherwise. The solution is in closed form between two switches. All lineages share one trunk (0 to 10 h) and
    then go to one fate each (10 to 24 h): some genes are switched off along the trunk, some are on for a while, some
    are switched on in one branch only, and some stay on. Counts are Poisson draws with a depth per cell, after
    gamma-distributed noise per cell and gene (so they are negative binomial).

    Parameters
    ----------
    n_cells
        Number of cells, at least 10 and at least 5 per branch. They are spread evenly over lineages and time.
    n_genes
        Number of genes, at least 3 more than branches.
    n_branches
        Number of fates, 1 to 26.
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

    Returns
    -------
    AnnData
        With ``X`` equal to the spliced counts, and

        - ``layers["spliced"]``, ``layers["unspliced"]``: counts, CSR, float32;
        - ``layers["true_spliced"]``, ``layers["true_unspliced"]``: molecules per cell without any noise, and
          ``layers["true_velocity"]``: their :math:`\dot s`, in molecules per hour;
        - ``var["true_alpha"]`` (molecules per hour while switched on), ``var["true_beta"]``, ``var["true_gamma"]`` (per
          hour), ``var["program"]`` (why the gene switches), and ``varm["true_on"]``, ``varm["true_off"]`` of shape
          (genes, branches): the hours between which it is on in each lineage, infinite where it never switches;
        - ``obs["true_time"]`` (hours), ``obs["lineage"]`` (the fate that the cell is heading for; on the trunk this is
          a coin flip that its expression knows nothing of), ``obs["true_fate"]`` (the same after the branching, missing
          on the trunk), ``obs["true_depth"]`` (counts per molecule), ``obs["clusters"]``;
        - ``obsm["true_fate_probabilities"]`` of shape (cells, branches): equal on the trunk, 0 or 1 after it;
        - ``obsm["X_umap"]`` and ``obsm["X_umap3d"]``: a map of the tree, laid out by how far the noise-free expression
          has travelled, with ``uns["clusters_colors"]`` to draw it. (It stands where a UMAP would, so that examples
          look the same on every machine.)
        - ``uns["simulation"]``: the arguments and ``branching_time``, ``end_time`` in hours.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    La Manno et al., RNA velocity of single cells, Nature 2018, for the kinetics; Bergen et al., Generalizing RNA
    velocity to transient cell states through dynamical modeling, Nature Biotechnology 2020, for their solution.
    """
    _check_simulation(n_cells, n_genes, n_branches, unspliced_fraction, counts_per_gene, dispersion, depth_spread)
    import pandas as pd
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    fates = [f"Fate {chr(ord('A') + branch)}" for branch in range(n_branches)]

    programs, on, off = _switch_times(rng, n_genes, n_branches)
    beta = rng.lognormal(0.0, 0.25, n_genes)
    gamma = beta * rng.lognormal(np.log(unspliced_fraction / (1 - unspliced_fraction)), 0.3, n_genes)
    alpha = gamma * rng.lognormal(np.log(10.0), 0.6, n_genes)  # alpha / gamma is the spliced steady state

    lineage = rng.permutation(np.arange(n_cells) % n_branches)
    time = _even_times(rng, lineage)
    unspliced, spliced = splicing_state(time[:, None], alpha, beta, gamma, on.T[lineage], off.T[lineage])

    depth = rng.lognormal(0.0, depth_spread, n_cells) * counts_per_gene / np.mean(unspliced + spliced)
    layers = {
        "spliced": _counts(rng, depth[:, None] * spliced, dispersion),
        "unspliced": _counts(rng, depth[:, None] * unspliced, dispersion),
        "true_spliced": spliced.astype(np.float32),
        "true_unspliced": unspliced.astype(np.float32),
        "true_velocity": (beta * unspliced - gamma * spliced).astype(np.float32),
    }

    trunk = time < BRANCHING
    clusters = np.where(time < COMMITTED, 0, np.where(trunk, 1, 2 + lineage))
    progress = _expression_path(time, lineage, alpha, beta, gamma, on, off)
    obs = pd.DataFrame(
        {
            "clusters": pd.Categorical.from_codes(clusters, ["Progenitor", "Intermediate", *fates]),
            "lineage": pd.Categorical.from_codes(lineage, fates),
            "true_fate": pd.Categorical.from_codes(np.where(trunk, -1, lineage), fates),
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
    probabilities = np.where(trunk[:, None], 1.0 / n_branches, lineage[:, None] == np.arange(n_branches))
    return AnnData(
        X=layers["spliced"].copy(),
        layers=layers,
        obs=obs,
        var=var,
        obsm={
            "X_umap": _tree_map(rng, progress, lineage, n_branches, n_dims=2),
            "X_umap3d": _tree_map(rng, progress, lineage, n_branches, n_dims=3),
            "true_fate_probabilities": probabilities,
        },
        varm={"true_on": on, "true_off": off},
        uns={
            "clusters_colors": [*TRUNK_COLORS, *(FATE_COLORS[b % len(FATE_COLORS)] for b in range(n_branches))],
            "simulation": {
                "unspliced_fraction": unspliced_fraction,
                "counts_per_gene": counts_per_gene,
                "dispersion": dispersion,
                "depth_spread": depth_spread,
                "seed": seed,
                "branching_time": BRANCHING,
                "end_time": END,
            },
        },
    )


def splicing_state(
    time: Float[np.ndarray, "*#shape"],
    alpha: Float[np.ndarray, "*#shape"],
    beta: Float[np.ndarray, "*#shape"],
    gamma: Float[np.ndarray, "*#shape"],
    on: Float[np.ndarray, "*#shape"],
    off: Float[np.ndarray, "*#shape"],
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    r"""Give unspliced and spliced molecules of genes that are on from ``on`` to ``off``, at ``time``.

    A gene is empty before it is switched on; one that was always on (``on`` = -∞) is at its steady state
    :math:`(\alpha/\beta, \alpha/\gamma)`. From one switch to the next it follows
    :func:`jaxvelo.dynamics.splicing_solution`.

    All arguments broadcast against each other. Times in hours, rates per hour.
    """
    always = np.isneginf(on)
    # A gene that was always on is one that starts at the steady state: any finite start gives the same.
    begin = np.where(always, 0.0, np.where(np.isfinite(on), on, 0.0))
    u0, s0 = np.where(always, alpha / beta, 0.0), np.where(always, alpha / gamma, 0.0)
    end = np.minimum(time, off)
    transcribed = np.where(on < end, alpha, 0.0)
    u1, s1 = splicing_solution(np.maximum(end - begin, 0.0), u0, s0, transcribed, beta, gamma, xp=np)
    u1, s1 = np.where(on < time, u1, 0.0), np.where(on < time, s1, 0.0)
    silent = np.maximum(time - np.where(np.isfinite(off), off, time), 0.0)
    return splicing_solution(silent, u1, s1, 0.0, beta, gamma, xp=np)


def _check_simulation(
    n_cells, n_genes, n_branches, unspliced_fraction, counts_per_gene, dispersion, depth_spread
) -> None:
    """Raise if an argument of :func:`simulate` makes no sense."""
    for name, value in (("n_cells", n_cells), ("n_genes", n_genes), ("n_branches", n_branches)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"Expected `{name}` to be an integer, found `{value!r}`.")
    if not 1 <= n_branches <= 26:
        raise ValueError(f"Expected `n_branches` to be 1 to 26, found `{n_branches}`.")
    if n_cells < max(10, 5 * n_branches):
        raise ValueError(
            f"Expected `n_cells` to be at least {max(10, 5 * n_branches)} (10, and 5 for each of {n_branches} "
            f"branches), found `{n_cells}`."
        )
    if n_genes < n_branches + 3:
        raise ValueError(
            f"Expected `n_genes` to be at least {n_branches + 3} (one for each branch and three for the trunk), "
            f"found `{n_genes}`."
        )
    if not 0 < unspliced_fraction < 1:
        raise ValueError(f"Expected `unspliced_fraction` to lie between 0 and 1, found `{unspliced_fraction}`.")
    if not 0 < counts_per_gene < np.inf:
        raise ValueError(f"Expected `counts_per_gene` to be positive, found `{counts_per_gene}`.")
    for name, value in (("dispersion", dispersion), ("depth_spread", depth_spread)):
        if not 0 <= value < np.inf:
            raise ValueError(f"Expected `{name}` to be 0 or positive, found `{value}`.")


def _switch_times(
    rng: np.random.Generator, n_genes: int, n_branches: int
) -> tuple[list[str], Float[np.ndarray, "genes branches"], Float[np.ndarray, "genes branches"]]:
    """Draw what each gene does, and the hours at which it is switched on and off in each lineage."""
    # Half of the genes tell the branches apart, every branch has as many; the rest makes the trunk move.
    trunk_programs = ("early", "transient", "transient", "constant")
    programs, on, off = [], np.full((n_genes, n_branches), -np.inf), np.full((n_genes, n_branches), np.inf)
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
            branch = (gene - n_trunk) % n_branches
            on[gene] = np.inf
            on[gene, branch] = BRANCHING + rng.uniform(0.0, 0.6) * (END - BRANCHING)
            program = f"fate {chr(ord('A') + branch)}"
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


def _counts(rng: np.random.Generator, mean: Float[np.ndarray, "cells genes"], dispersion: float) -> sp.csr_matrix:
    """Draw negative binomial counts with variance mean + dispersion mean²."""
    if dispersion > 0:
        mean = mean * rng.gamma(1 / dispersion, dispersion, mean.shape)
    return sp.csr_matrix(rng.poisson(mean).astype(np.float32))


def _expression_path(time, lineage, alpha, beta, gamma, on, off) -> Float[np.ndarray, " cells"]:
    """Give how far along its lineage a cell has come, in [0, 1]: half by time, half by the change of expression."""
    hours = np.linspace(0.0, END, 241)
    progress = np.empty(len(time))
    for branch in range(on.shape[1]):
        _, spliced = splicing_state(hours[:, None], alpha, beta, gamma, on[:, branch], off[:, branch])
        steps = np.linalg.norm(np.diff(np.log1p(spliced), axis=0), axis=1)
        travelled = np.concatenate([[0.0], np.cumsum(steps)])
        # Scaled on the trunk and on the branch each, so that the lineages part at one point.
        at_branching = np.searchsorted(hours, BRANCHING)
        trunk = travelled[: at_branching + 1] / travelled[at_branching] * BRANCHING
        rest = travelled[at_branching + 1 :] - travelled[at_branching]
        rest = BRANCHING + rest / rest[-1] * (END - BRANCHING) if rest[-1] > 0 else hours[at_branching + 1 :]
        path = 0.5 * (np.concatenate([trunk, rest]) + hours) / END
        cells = lineage == branch
        progress[cells] = np.interp(time[cells], hours, path)
    return progress


def _tree_map(
    rng: np.random.Generator,
    progress: Float[np.ndarray, " cells"],
    lineage: Int[np.ndarray, " cells"],
    n_branches: int,
    n_dims: int,
) -> Float[np.ndarray, "cells dims"]:
    """Lay the tree out: a gently curved trunk, then branches that turn away from each other, all with some width."""
    steps = np.linspace(0.0, 1.0, 401)
    along = np.clip((steps - BRANCHING / END) / (1 - BRANCHING / END), 0.0, 1.0)
    turned = np.clip(along / 0.4, 0.0, 1.0)
    turned = turned**2 * (3 - 2 * turned) * (1 - 0.5 * along**2)  # turn off, then half way back
    fan = np.full(1, 0.6) if n_branches == 1 else np.linspace(1.0, -1.0, n_branches)
    angle_of_trunk = 0.7 * np.sin(2 * np.pi * np.minimum(steps / (BRANCHING / END), 1.0))
    position = np.empty((len(progress), n_dims))
    for branch in range(n_branches):
        if n_dims == 2:
            opening = np.deg2rad(min(50.0 + 10.0 * n_branches, 130.0)) * fan[branch]
            angle = angle_of_trunk + opening * turned
            heading = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        else:
            opening, around = np.deg2rad(65.0) * turned, 2 * np.pi * branch / n_branches
            heading = np.stack(
                [
                    np.cos(angle_of_trunk) * np.cos(opening),
                    np.sin(angle_of_trunk) + np.sin(opening) * np.cos(around),
                    np.sin(opening) * np.sin(around),
                ],
                axis=1,
            )
        curve = np.concatenate([np.zeros((1, n_dims)), np.cumsum(heading[1:] * np.diff(steps)[:, None], axis=0)])
        cells = lineage == branch
        for dim in range(n_dims):
            position[cells, dim] = np.interp(progress[cells], steps, curve[:, dim])
    return (20.0 * (position + 0.025 * rng.standard_normal(position.shape))).astype(np.float32)


def pancreas(path: str | os.PathLike | None = None) -> "AnnData":
    """Read the mouse pancreas at embryonic day 15.5: the data of the RNA velocity tutorials.

    3,696 cells that go from ductal cells to four endocrine fates (alpha, beta, delta, epsilon), with raw spliced and
    unspliced counts of 27,998 genes. Read from

    1. ``path``, if given;
    2. ``$JAXVELO_SHARED/data/pancreas_3696.h5ad``, if that variable is set (2,000 genes of the same cells);
    3. otherwise the copy in the operating system's cache folder (``pooch.os_cache("jaxvelo")``), which is downloaded
       once (52 MB) and whose SHA-256 is checked on every call.

    Parameters
    ----------
    path
        A ``.h5ad`` file to read instead of downloading one.

    Returns
    -------
    AnnData
        With ``layers["spliced"]``, ``layers["unspliced"]``, ``obs["clusters"]``, ``obsm["X_umap"]`` and
        ``uns["clusters_colors"]`` (the tutorial's colours, where the file has none).

    Raises
    ------
    FileNotFoundError
        If the file at ``path`` or below ``$JAXVELO_SHARED`` does not exist.
    OSError
        If the download fails or its content is not the published one.
    ValueError
        If the file lacks one of the entries above.
    ImportError
        If a download is needed and pooch is not installed.

    References
    ----------
    Bastidas-Ponce et al., Comprehensive single cell mRNA profiling reveals a detailed roadmap for pancreatic
    endocrinogenesis, Development 2019; as cut by scVelo (Bergen et al. 2020).
    """
    import anndata
    import pandas as pd

    shared = os.environ.get("JAXVELO_SHARED")
    if path is not None:
        source, file = "`path`", Path(path)
    elif shared:
        source, file = "the environment variable `JAXVELO_SHARED`", Path(shared) / "data" / "pancreas_3696.h5ad"
    else:
        source, file = "the cache", _download(PANCREAS_URL, PANCREAS_SHA256, "endocrinogenesis_day15.h5ad")
    if not file.is_file():
        raise FileNotFoundError(f"Expected the pancreas data at `{file}`, as {source} says, found no file there.")

    adata = anndata.read_h5ad(file)
    found = {"layers": layer_names(adata), "obs": list(adata.obs), "obsm": list(adata.obsm)}
    for attribute, key in (("layers", "spliced"), ("layers", "unspliced"), ("obs", "clusters"), ("obsm", "X_umap")):
        if key not in found[attribute]:
            raise ValueError(
                f"Expected `adata.{attribute}[{key!r}]` in `{file}`, found {sorted(found[attribute])}. "
                f"Is it the file from {PANCREAS_URL}?"
            )
    if not adata.var_names.is_unique:
        adata.var_names_make_unique()
    if not isinstance(adata.obs["clusters"].dtype, pd.CategoricalDtype):
        adata.obs["clusters"] = adata.obs["clusters"].astype(str).astype("category")
    categories = adata.obs["clusters"].cat.categories
    if "clusters_colors" not in adata.uns and set(categories) <= PANCREAS_COLORS.keys():
        adata.uns["clusters_colors"] = [PANCREAS_COLORS[name] for name in categories]
    return adata


def _download(url: str, sha256: str, name: str) -> Path:
    """Download a file into the cache once, and check it every time."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError('Downloading data needs pooch: pip install "jaxvelo[tutorial]".') from error
    folder = Path(pooch.os_cache("jaxvelo"))
    if not (folder / name).is_file():
        logger.info("Downloading `%s` to `%s`", url, folder / name)
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder, progressbar=True))
    except (OSError, ValueError) as error:  # no network and a full disk raise OSError, a wrong hash ValueError
        raise OSError(
            f"Could not download `{url}` to `{folder / name}`: {error} Download the file by hand and name it in "
            f"`path=`, or put it there."
        ) from error
