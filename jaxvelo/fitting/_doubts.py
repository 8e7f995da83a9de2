"""What speaks against a fit: its parameters, its gain, its labels, and what it does to cells without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from jaxvelo import fit
from jaxvelo.fitting._change import Change, summary
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._scores import mean_loss, parts_of_mean
from jaxvelo.fitting._split import Groups, Split

FAR_SCALE = 10.0
"""A scale that is more than so many times the automatic one, or less than one over this, is far from it."""
FAR_WEIGHT = 0.99
"""A weight above this has left nothing to the other terms."""
FEW_GROUPS = 5
MOST_OF_GAIN = 0.5
"""A gain of which a single group makes more than this part rests on it."""
UNLIKELY_LABEL = 0.05
"""A label of a smaller probability by the convention, which most neighbours do not have either, may be wrong."""
SOME_LABELS = 0.01
"""Part of the labels that may be wrong without a word."""
UNASKED_CHANGE = 0.1
"""Root mean square change of fate probabilities of cells of which the objective tells nothing, without a word."""


def doubts(
    problem: KernelProblem,
    split: Split,
    groups: Groups,
    parameters: Mapping[str, np.ndarray],
    convention: Mapping[str, np.ndarray],
    gains: Sequence[Float[np.ndarray, " items"]],
    scores: Mapping[str, float],
    change: Change,
    doubtful: Bool[np.ndarray, " cells"],
) -> list[str]:
    """Say in one sentence each what a user should know before the fitted kernel is used.

    Parameters
    ----------
    problem, split, groups
        What was fitted, on which cells, and what is independent.
    parameters, convention
        Readable parameters.
    gains
        Loss by the convention minus loss by the fitted kernel, of each item of each term.
    scores
        See :class:`FitResult`.
    change
        What the fit changes.
    doubtful
        Cells whose label may be wrong.
    """
    return [
        *_one_group(problem, split, groups),
        *_far_parameters(parameters, convention),
        *_uncertain_gain(problem, split, groups, gains, scores),
        *_wrong_labels(problem, doubtful),
        *_unasked_change(problem, change),
    ]


def doubtful_labels(
    objective: fit.Loss, connectivities: sp.csr_matrix, outlooks: Sequence[np.ndarray | None]
) -> Bool[np.ndarray, " cells"]:
    """Mask of the cells whose known fate is improbable by the convention, and differs from most neighbours'.

    Either alone may be right where the other is wrong: the convention, about a whole branch, and the neighbours, where
    branches part.

    Parameters
    ----------
    objective
        The loss. Its terms with classes of items, that are the columns of their outlook, have labels.
    connectivities
        The graph.
    outlooks
        Those of the terms by the convention.
    """
    linked = sp.csr_matrix(connectivities != 0, dtype=np.float64)
    doubtful = np.zeros(linked.shape[0], dtype=bool)
    for term, outlook in zip(fit.terms_of(objective), outlooks, strict=True):
        if term.classes is None or outlook is None:
            continue
        probability = np.asarray(outlook, dtype=np.float64)
        counted = np.asarray(term.weight) > 0
        cell, label = np.asarray(term.cell)[counted], np.asarray(term.classes)[counted]
        given = np.flatnonzero(np.broadcast_to(term.given_cells(), len(doubtful)))
        labels = np.zeros_like(probability)
        np.add.at(labels, (cell, label), 1)
        labels[given] = probability[given]
        around = (linked - sp.diags_array(linked.diagonal())) @ labels
        alone = around[cell, label] < 0.5 * around[cell].sum(axis=1)
        doubtful[cell[alone & (probability[cell, label] < UNLIKELY_LABEL)]] = True
    return doubtful


def _one_group(problem: KernelProblem, split: Split, groups: Groups) -> Iterator[str]:
    if problem.has_errors and not groups.are_cells and groups.count(split.training) < 2:
        yield (
            "All training cells are of one group: nothing is known of others, and parameters have no standard errors. "
            "Hold out fewer groups."
        )


def _far_parameters(parameters: Mapping[str, np.ndarray], convention: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, value in parameters.items():
        if name.startswith("softmax_scale"):
            ratio = np.ravel(value / convention[name])
            far = max(ratio.max(), 1 / ratio.min())
            if far > FAR_SCALE:
                times = f"{ratio.max():.3g} times" if ratio.max() == far else f"{ratio.min():.2g} of"
                yield (
                    f"`{name}` has run to {times} the automatic one: steps are nearly "
                    f"{'certain' if ratio.max() == far else 'uniform'}, also where no label speaks for that. Hold it "
                    "by a smaller `prior`, or train the weights alone."
                )
        elif name.startswith("weights"):
            largest = value.max(axis=-1)
            run = (largest > FAR_WEIGHT) & (np.asarray(convention[name]).max(axis=-1) <= FAR_WEIGHT)
            if np.any(run):
                term = int(np.argmax(value[np.unravel_index(np.argmax(np.where(run, largest, 0)), run.shape)]))
                yield (
                    f"`{name}` has run to {largest.max():.4g} for term {term + 1}: the fit has dropped the others, "
                    "which is more than labels of some cells can tell. Hold it by a smaller `prior`, or "
                    "train the scale alone."
                )


def _uncertain_gain(
    problem: KernelProblem, split: Split, groups: Groups, gains: Sequence[np.ndarray], scores: Mapping[str, float]
) -> Iterator[str]:
    if not split.is_validated:
        return
    gain, error = scores["validation_gain"], scores["validation_gain_se"]
    if gain < -error:
        yield "On the held-out cells the fitted kernel is worse than the convention. Take the convention."
    elif not gain > error:  # with a single group, the error is not known
        yield (
            "The gain on held-out cells is within its standard error: the data do not tell the fitted kernel from the "
            "convention."
        )
    count = groups.count(split.held_out)
    if not (groups.are_cells or groups.name == "blocks") and count < FEW_GROUPS:
        yield (
            f"Only {count} of the groups in `adata.obs[{groups.name!r}]` {'was' if count == 1 else 'were'} held out: "
            "gain and standard error say little about others. Fit again with other seeds, or a larger `validation`."
        )
    elif gain > 0 and count > 1:
        without = _gain_without_best(problem, split, groups, gains)
        if without < (1 - MOST_OF_GAIN) * gain:
            what = {"cells": "cell", "blocks": "block"}.get(groups.name, f"group of `adata.obs[{groups.name!r}]`")
            yield (
                f"A single {what} makes most of the gain on held-out cells: without it, {without:.3g} is left of "
                f"{gain:.3g}."
            )


def _gain_without_best(problem: KernelProblem, split: Split, groups: Groups, gains: Sequence[np.ndarray]) -> float:
    """Smallest mean gain over all held-out groups but one; only that with the largest part in the gain is tried."""
    parts, numbers = parts_of_mean(problem.objective, gains, split.held_out, groups)
    best = numbers[int(np.argmax(parts))]
    return mean_loss(problem.objective, gains, split.held_out & (groups.number != best))


def _wrong_labels(problem: KernelProblem, doubtful: Bool[np.ndarray, " cells"]) -> Iterator[str]:
    count, n_known = int(doubtful.sum()), int(problem.item_cells().sum())
    if count > max(1, SOME_LABELS * n_known):
        yield (
            f"{count} of {n_known} known fates look wrong: less likely than {UNLIKELY_LABEL:g} by the convention, and "
            "other than those of most neighbours. See `result.doubtful`."
        )


def _unasked_change(problem: KernelProblem, change: Change) -> Iterator[str]:
    if not change.fates:
        return
    others = ~problem.item_cells()
    middle, largest = summary(change.size, others)
    if middle > UNASKED_CHANGE:
        yield (
            f"Fate probabilities of the {int((others & ~np.isnan(change.size)).sum())} cells without labels change by "
            f"{middle:.2g} (root mean square; {largest:.2g} at most). No label says whether they are better there: see "
            "`result.plot_fates()`."
        )
