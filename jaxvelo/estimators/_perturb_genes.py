"""What becomes of the cells' fates if genes are silenced, or raised, in the velocities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.gene_perturbations import COLUMNS, EVERYWHERE, write_perturbations
from jaxvelo.annotated.names import places_by_name
from jaxvelo.annotated.q_values import q_values
from jaxvelo.annotated.stored_states import read_assignment
from jaxvelo.configuration import logger, timed
from jaxvelo.estimators._estimator import Estimator
from jaxvelo.estimators._fates_of_velocities import VelocityFates
from jaxvelo.estimators._perturbed_velocities import FirstOrder, changed_fates, first_order_changes
from jaxvelo.kernels import KernelExpression

STATES_REMEDY = (
    "Find or name them first, as by `g = jaxvelo.estimators.GPCCA(kernel)` and `g.predict_terminal_states()` or "
    "`g.set_terminal_states(...)`."
)


def perturb_genes(
    kernel: KernelExpression | Estimator,
    genes: Any = None,
    factor: float = 0.0,
    *,
    cluster_key: str | None = None,
    n_shuffles: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Effect on the cells' fates of silencing a gene in the velocities, or of raising it.

    The velocity of gene g is multiplied by a factor f in all cells, :math:`v_{ig} \to f v_{ig}`: 0 silences it, 2 makes
    it twice as fast, -1 turns it around. Transition probabilities and fates :math:`F_{ik}` follow; expression,
    neighbours and softmax scale stay as they are, and so does what other genes do: this asks what the fates that were
    computed rest on, not how a cell without the gene would fare.

    For all genes to first order, by one backward pass for each cluster a and lineage k,

    .. math:: E_{gak} = (f - 1) \sum_i v_{ig} \frac{\partial \bar F_{ak}}{\partial v_{ig}}, \qquad
        \bar F_{ak} = \frac{1}{n_a} \sum_{i \in a} F_{ik}.

    For ``genes``, exactly: kernel and fates are computed anew. Genes whose velocity dominates that of a cell may have
    an exact effect of another size, or even sign, than the first order says (twice the velocity of a gene that leads
    alone changes little, and none of it changes much): what matters is worth computing exactly.

    P-values are those of shuffled genes: how often the velocity of another gene r in the place of the gene's own,
    scaled to the same sum of squares, would have as large an effect,

    .. math:: N_{gr} = \sum_i \frac{|v_g|}{|v_r|} v_{ir} \frac{\partial \bar F_{ak}}{\partial v_{ig}}, \qquad
        z_g = \frac{E_{gak}}{(f - 1) \, \mathrm{rms}_r N_{gr}}, \qquad
        p_g = \frac{1 + \#\{h, r: |N_{hr}| / \mathrm{rms}_r N_{hr} \geq |z_g|\}}{1 + \#\{h, r\}},

    over all genes h and some genes r (Phipson & Smyth 2010). So a small p-value says that the gene's own course matters
    beyond what that of another gene would that changes along the same cells. Where many genes change together, few
    are so: the p-values are strict. Shuffling velocities over the cells would
    not do: velocities and derivatives are both smooth over neighbours, so that far more than 5 % of the genes without
    effect have p-values below 0.05 then; here it is about 5 % at most.

    Parameters
    ----------
    kernel
        A computed kernel with velocities, itself or a combination with one, whose ``adata`` holds terminal states (the
        initial ones of a backward process), as :class:`jaxvelo.estimators.GPCCA` writes them; or that estimator.
    genes
        One or several of the kernel's genes, for exact effects.
    factor
        What the velocities are multiplied by.
    cluster_key
        Column of ``obs`` with clusters that effects are summarised by, beside all cells that are not terminal.
    n_shuffles
        Number of other genes whose velocities are tried in the place of a gene's, at most as many as there are.
    seed
        Which ones.

    Returns
    -------
    A table of one row for each gene, cluster and lineage, ``"all cells"`` first:

    - ``"gene"``, ``"cluster"``, ``"lineage"``;
    - ``"effect"``: :math:`E_{gak}`, a change of the mean probability; ``"exact"``: the same computed anew, NaN for
      genes that are not in ``genes``;
    - ``"consistency"``: from -1 to 1, how consistently more velocity of the gene leads to the fate, whatever the factor
      and the size of the velocity: ``score`` of :class:`jaxvelo.estimators.FateGradient`. In simulations of branches
      and of networks it ranks the genes behind a fate better than effect, score and p-value do, and mostly less
      well than the correlation of expression with the fate (``GPCCA.compute_lineage_drivers``);
    - ``"score"``: :math:`(f - 1) z_g / |f - 1|`, the effect in units of what other velocities would have;
    - ``"pval"``, ``"qval"`` (Benjamini & Hochberg 1995, over the genes); NaN where the velocity is zero everywhere or
      all cells of the cluster are terminal.

    It is stored in ``adata.uns["gene_perturbations_fwd"]["table"]`` (``bwd`` for a backward process), with the
    arguments in ``["params"]``, and the exact change of each cell's fates in ``adata.obsm["perturbed_fates_fwd"]``,
    columns ``"<gene>_<lineage>"``. :func:`jaxvelo.pl.perturbed_fates` draws them.

    Raises
    ------
    KeyError
        If there are no terminal states or clusters, or a gene is none of the kernel's.
    TypeError
        If ``kernel`` is none with velocities.
    ValueError
        If there is a single terminal state, or an argument is out of range.
    RuntimeError
        If the transition matrix was not computed.
    ArithmeticError
        If the fates are not known.

    Examples
    --------
    >>> table = jv.estimators.perturb_genes(kernel, n_shuffles=20)
    >>> top = table.sort_values("consistency", ascending=False).iloc[0]
    >>> top["gene"] in adata.var_names, top["cluster"]
    (True, 'all cells')
    """
    kernel = kernel.kernel if isinstance(kernel, Estimator) else kernel
    if not is_number(factor) or not np.isfinite(factor) or factor == 1:
        raise ValueError(
            f"Expected `factor` to be a finite number other than 1, which changes nothing, found `{factor!r}`. Pass 0 "
            "to silence genes, or 2 to raise them."
        )
    check_integer("n_shuffles", n_shuffles, 1)
    check_integer("seed", seed, 0)
    fates, keys = _fates(kernel)
    exact_genes = _places(fates, kernel.adata.var_names, genes)
    weights, clusters = _summaries(kernel, fates, cluster_key)
    moving = np.flatnonzero(np.asarray(fates.features.v[:, : fates.shape[1]] != 0).any(axis=0))
    others = np.random.default_rng(seed).permutation(moving)[:n_shuffles]
    with timed("Computing what the velocities of all genes do to the fates"):
        first = first_order_changes(fates, weights, others)
    changes = None
    if len(exact_genes):
        with timed(f"Computing fates anew for {len(exact_genes)} genes"):
            changes = changed_fates(fates, exact_genes, float(factor))
    table = _table(fates, clusters, first, float(factor))
    names = [str(fates.kernel.genes[place]) for place in exact_genes]
    frame = None
    if changes is not None:
        exact = np.full((len(clusters), len(fates.names), fates.shape[1]), np.nan)
        exact[:, :, exact_genes] = np.einsum("ai,gik->akg", weights, changes)
        table["exact"] = exact.ravel()
        columns = [f"{gene}_{lineage}" for gene in names for lineage in fates.names]
        values = np.moveaxis(changes, 0, 1).reshape(len(kernel.adata), -1)
        frame = pd.DataFrame(values, index=kernel.adata.obs_names, columns=columns)
    params: dict[str, Any] = {"factor": float(factor), "genes": np.array(names, dtype=object)}
    params |= {"cluster_key": cluster_key or "", "n_shuffles": len(others), "seed": seed}
    for place in write_perturbations(kernel.adata, keys, table, frame, params):
        logger.info("Adding `%s`", place)
    return table


def _fates(kernel: KernelExpression) -> tuple[VelocityFates, FateKeys]:
    """Give kernel and terminal states together."""
    keys = FateKeys(bool(getattr(kernel, "backward", False)))
    adata = getattr(kernel, "adata", None)
    names, codes = ["unknown"], np.zeros(1, dtype=int)  # what is no kernel is told so before anything else
    if adata is not None:
        names, codes = read_assignment(adata, keys.terminal_states, STATES_REMEDY)
    there = [k for k in range(len(names)) if (codes == k).any()]
    number = np.full(len(names) + 1, -1)
    number[there] = np.arange(len(there))
    fates = VelocityFates.of_kernel(kernel, number[codes], [names[k] for k in there])
    if len(there) < 2:
        raise ValueError(
            f"Expected two or more terminal states in `adata.obs[{keys.terminal_states!r}]`, found {listed(names)}: "
            f"all cells end there, whatever the velocities are. {STATES_REMEDY}"
        )
    return fates, keys


def _places(fates: VelocityFates, var_names: pd.Index, genes: Any) -> Int[np.ndarray, " genes"]:
    """Give the places of genes among the kernel's, each once."""
    if genes is None:
        return np.zeros(0, dtype=int)
    wanted = list(genes) if pd.api.types.is_list_like(genes) else [genes]
    if not wanted:
        raise ValueError("Expected at least one name in `genes`, found none. Pass None for no exact effects.")
    found = places_by_name(pd.Index(fates.kernel.genes), wanted)
    absent = [want for want, places in found if not places]
    if absent:
        without = [want for want, places in places_by_name(var_names, absent) if places]
        why = f" ({listed(without, 5)} are not among the genes that it takes velocities of)" if without else ""
        raise KeyError(
            f"Expected names of the kernel's genes in `genes`, found {listed(absent, 5)}{why}. They are like "
            f"{listed(fates.kernel.genes[:3])}, see `kernel.genes`."
        )
    if several := [want for want, places in found if len(places) > 1]:
        raise ValueError(
            f"Expected each name in `genes` once among the kernel's genes, found {listed(several, 5)} several times. "
            "Make the names unique, as by `adata.var_names_make_unique()`, and compute the kernel anew."
        )
    return np.array(list(dict.fromkeys(places[0] for _, places in found)), dtype=int)


def _summaries(
    kernel: KernelExpression, fates: VelocityFates, cluster_key: str | None
) -> tuple[Float[np.ndarray, "clusters cells"], list[str]]:
    """Give the weight of each cell in the mean over each cluster, and over all cells that are not terminal."""
    masks, names = [fates.terminal < 0], [EVERYWHERE]
    if cluster_key is not None:
        codes, clusters = cluster_codes(kernel.adata, cluster_key)
        if EVERYWHERE in clusters:
            raise ValueError(
                f"Expected clusters in `adata.obs[{cluster_key!r}]` with other names than {EVERYWHERE!r}, which stands "
                "for all cells together, found one. Rename it."
            )
        masks += [codes == k for k in range(len(clusters))]
        names += clusters
    return np.array([mask / mask.sum() for mask in masks]), names


def _table(fates: VelocityFates, clusters: list[str], first: FirstOrder, factor: float) -> pd.DataFrame:
    """Write effects, scores and p-values as a table."""
    shape = len(clusters), len(fates.names), fates.shape[1]
    scores, p, q = (np.full(shape, np.nan) for _ in range(3))
    for place in np.ndindex(shape[:2]):
        scores[place], p[place] = scores_and_p_values(first.derivative[place], first.shuffled[place])
        q[place] = q_values(p[place])
    where = np.indices(shape)
    names = [np.array(list(map(str, x)), dtype=object) for x in (fates.kernel.genes, clusters, fates.names)]
    columns = [labels[where[axis].ravel()] for labels, axis in zip(names, (2, 0, 1), strict=True)]
    effects, unknown = (factor - 1) * first.derivative, np.full(shape, np.nan)
    numbers = [effects, unknown, first.consistency, np.sign(factor - 1) * scores, p, q]
    return pd.DataFrame(dict(zip(COLUMNS, [*columns, *(x.ravel() for x in numbers)], strict=True)))


def scores_and_p_values(
    own: Float[np.ndarray, " genes"], shuffled: Float[np.ndarray, "genes others"]
) -> tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]]:
    """Compare effects with those of other genes' velocities, in units of each gene's; see :func:`perturb_genes`.

    Parameters
    ----------
    own
        Effects.
    shuffled
        Effects with the velocities of other genes, NaN where these are the same gene.

    Returns
    -------
    Scores and p-values; NaN where no other gene has an effect.
    """
    known = np.isfinite(shuffled)
    squares = np.where(known, shuffled, 0) ** 2
    unit = np.sqrt(squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    matters = unit > 0
    scores = np.full(len(own), np.nan)
    scores[matters] = own[matters] / unit[matters]
    relative = np.abs(shuffled[matters] / unit[matters, None])
    by_chance = np.sort(relative[known[matters]])
    # Equal up to rounding is as large.
    as_large = len(by_chance) - np.searchsorted(by_chance, np.abs(scores[matters]) * (1 - 1e-6))
    p = np.full(len(own), np.nan)
    p[matters] = (1 + as_large) / (1 + len(by_chance))
    return scores, p
