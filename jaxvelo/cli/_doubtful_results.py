"""What speaks against the results of a run, as the results themselves say: one sentence for each doubt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from jaxvelo.annotated.count_proportions import LAYERS, read_proportions
from jaxvelo.cli._account import Account
from jaxvelo.cli._plan_along_time import CYTOTRACE, DAYS
from jaxvelo.dynamics import velocity_coherence
from jaxvelo.kernels import VelocityKernel

FEW_CELLS, FEW_GENES = 500, 100
UNSPLICED = (0.05, 0.5)
"""Shares of unspliced counts that protocols with spliced and unspliced reads usually have."""
CLEAR_MODEL = 0.5
"""A model with a smaller probability is not clearly the best."""
POOR_FIT = 0.5
"""A curve that leaves more of the variance of a gene is a poor one."""
INCOHERENT = 0.4
"""A smaller mean correlation of velocities of neighbours, which share most of their moments, is noise for the most."""
NARROW_GAP = 0.02
UNDECIDED = 0.6
"""A cell without a fate of this probability is undecided."""
RARE_FATE = 0.02
MANY = 0.25
"""A share of the genes, or of the cells, that is worth a word."""


def doubtful_results(account: Account) -> list[str]:
    """Give what a reader should doubt, from the counts to the fates."""
    return [
        *_of_cells(account),
        *_of_velocities(account),
        *_of_fit(account),
        *_of_time(account),
        *_of_macrostates(account),
        *_of_fates(account),
        *_of_genes(account),
    ]


def _of_cells(account: Account) -> Iterator[str]:
    n_cells = account.adata.n_obs
    if n_cells < FEW_CELLS:
        yield (
            f"There are {n_cells} cells only. Of fewer than {FEW_CELLS}, a few cells decide how many states there are "
            "and which are terminal: leave some out and see whether the results stay."
        )


def _of_velocities(account: Account) -> Iterator[str]:
    adata = account.adata
    if account.plan.time is not None:
        return
    if account.cluster_key is not None and {"spliced", "unspliced"} <= set(adata.layers):
        found = read_proportions(adata, account.cluster_key, [name for name in LAYERS[:2] if name in adata.layers])
        share = float(found.total[1])
        if not UNSPLICED[0] <= share <= UNSPLICED[1]:
            yield (
                f"{share:.0%} of the counts are unspliced; {UNSPLICED[0]:.0%} to {UNSPLICED[1]:.0%} are usual. See "
                "whether both layers are what their names say, and how the reads were counted."
            )
    velocity = next(kernel for kernel in account.kernel.kernels if isinstance(kernel, VelocityKernel))
    v = np.asarray(velocity.features[velocity.features_name].v)[: adata.n_obs]
    v = v[:, v.any(axis=0)]  # the others say nothing; some are there to fill the rows
    n_genes = v.shape[1]
    if n_genes < FEW_GENES:
        yield f"Velocities are of {n_genes} genes only: each of them has much weight in all that follows."
    coherence = float(np.mean(velocity_coherence(velocity.graph, jnp.asarray(v))[1]))
    if coherence < INCOHERENT:
        yield (
            f"Velocities of neighbouring cells agree little: their mean correlation is {coherence:.2f}. Arrows average "
            "over this noise and may look smooth nevertheless."
        )


def _of_fit(account: Account) -> Iterator[str]:
    adata = account.adata
    if account.mode != "dynamical":
        return
    chosen = adata.var[adata.var["velocity_genes"].to_numpy(dtype=bool)]
    n_genes = len(chosen)
    if "fit_status" in chosen:
        unsure = Counter(chosen["fit_status"].astype(str))
        unsure.pop("converged", None)
        n_unsure = sum(unsure.values())
        if n_unsure > MANY * n_genes:
            kinds = ", ".join(f"{count} {status}" for status, count in unsure.most_common())
            yield f"The fits of {n_unsure} of the {n_genes} velocity genes are unsure ({kinds})."
    if "fit_evidence" in adata.varm:
        evidence = np.asarray(adata.varm["fit_evidence"])[adata.var["velocity_genes"].to_numpy(dtype=bool)]
        known = np.isfinite(evidence).all(axis=1)
        n_unclear = int(np.sum(evidence[known].max(axis=1, initial=0) < CLEAR_MODEL))
        if n_unclear > MANY * n_genes:
            yield (
                f"For {n_unclear} of the {n_genes} velocity genes no model of transcription is clearly the best (`varm"
                f"['fit_evidence']` below {CLEAR_MODEL}): their velocities are averages over several."
            )
        if not known.all():
            yield (
                f"{int(np.sum(~known))} of the {n_genes} velocity genes have no evidence for their model "
                "(`varm['fit_evidence']`)."
            )
    if "fit_residual" in chosen:
        n_poor = int((chosen["fit_residual"] > POOR_FIT).sum())
        if n_poor > MANY * n_genes:
            yield (
                f"The cells are far from the fitted curves of {n_poor} of the {n_genes} velocity genes "
                f"(`var['fit_residual']` above {POOR_FIT}): see the phase portraits."
            )
    yield (
        "A curve that fits the cells is no proof of its velocities, where genes are not switched as sharply as the "
        "model has it: compare with a run with `--velocity-mode stochastic`."
    )


def _of_time(account: Account) -> Iterator[str]:
    time = account.plan.time
    if time is None:
        return
    if time == CYTOTRACE:
        yield (
            "The direction rests on CytoTRACE, for which cells that express more genes come first. Cell size, quality "
            "and cycle change that number too: see whether known progenitors have small values of "
            f"`obs['{account.time_key}']`."
        )
    elif time == DAYS:
        yield (
            "Couplings of time points take every difference between their cells for development: batches of the time "
            "points, and kinds of cells that were sampled at one of them alone, look like it."
        )
    else:
        yield (
            f"The direction is that of `obs['{account.time_key}']`, and is as right as the beginning that was chosen "
            "for it: nothing in this run tests it."
        )


def _of_macrostates(account: Account) -> Iterator[str]:
    estimator = account.estimator
    if estimator is None or estimator.macrostates is None or estimator.eigendecomposition is None:
        return
    values = np.real(estimator.eigendecomposition["D"])
    number = len(estimator.macrostates.cat.categories)
    if number < len(values):
        gap = float(values[number - 1] - values[number])
        if gap < NARROW_GAP:
            yield (
                f"The gap of the eigenvalues behind the {number} macrostates is narrow ({values[number - 1]:.4f} to "
                f"{values[number]:.4f}): another number of them, `--n-states`, may be as good."
            )


def _of_fates(account: Account) -> Iterator[str]:
    estimator = account.estimator
    if estimator is None or estimator.fate_probabilities is None:
        return
    fates = estimator.fate_probabilities
    names = list(map(str, fates.names))
    several = [name for name, count in Counter(re.sub(r"_\d+$", "", name) for name in names).items() if count > 1]
    if several:
        yield (
            f"Several terminal states are of the same cluster ({', '.join(several)}): see whether they are different "
            "ends, or one."
        )
    if len(names) > 1:
        rare = [name for name, mean in zip(names, fates.X.mean(axis=0), strict=True) if mean < RARE_FATE]
        if rare:
            yield f"Hardly any cell goes to {', '.join(rare)} (less than {RARE_FATE:.0%} in the mean)."
        undecided = float(np.mean(fates.X.max(axis=1) < UNDECIDED))
        if undecided > MANY:
            yield (
                f"{undecided:.0%} of the cells are undecided: no fate of theirs has a probability of {UNDECIDED:g}. "
                "They may be early, or the transition matrix may not tell the fates apart."
            )
    tolerance = estimator.params["fate_probabilities"].get("tol")
    if tolerance is not None:
        yield (
            f"Fate probabilities are off by at most {tolerance:.0e} from those that follow from the transition matrix. "
            "That bound says nothing of whether the transition matrix, or the choice of terminal states, is right: see "
            "how fates change with another `--weight` or `--n-states`."
        )


def _of_genes(account: Account) -> Iterator[str]:
    if account.estimator is not None and account.estimator.lineage_drivers is not None:
        yield (
            "Correlations of genes with fates rank genes. Their p- and q-values take cells for independent, which "
            "neighbours are not, and fates were computed from the same genes: do not report them as tests."
        )
    if account.trends is not None:
        yield (
            "Tests of trends are optimistic: the time was found from the same expression, and cells of one sample are "
            "no independent repetitions."
        )
