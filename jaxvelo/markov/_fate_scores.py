"""How well fate probabilities agree with fates that are known."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Reliability(NamedTuple):
    """What was said against what happened: one row for each fate, one column for each bin of probability.

    Attributes
    ----------
    predicted
        Mean probability of the fate in the cells whose probability falls into the bin; NaN where there are none.
    observed
        Part of these cells that have this fate. It equals ``predicted`` if the probabilities are calibrated.
    n_cells
        Number of these cells.

    Examples
    --------
    >>> probabilities = np.array([[0.2, 0.8], [0.2, 0.8], [0.9, 0.1]])
    >>> diagram = jv.markov.fate_scores(probabilities, np.array([0, 1, 0]), n_bins=2).reliability
    >>> diagram.predicted[0].round(2).tolist(), diagram.observed[0].tolist(), diagram.n_cells[0].tolist()
    ([0.2, 0.9], [0.5, 1.0], [2, 1])
    """

    predicted: Float[np.ndarray, "fates bins"]
    observed: Float[np.ndarray, "fates bins"]
    n_cells: Int[np.ndarray, "fates bins"]


class FateScores(NamedTuple):
    """Agreement of fate probabilities with known fates; see :func:`fate_scores`.

    Attributes
    ----------
    log_score
        Mean logarithm of the probability of the known fate, 0 at best.
    accuracy
        Part of the cells whose most probable fate is the known one; 1 at best.
    brier
        Mean squared distance from the known fates, 0 at best.
    calibration_error
        Expected calibration error, 0 at best.
    reliability
        The diagram that the calibration error sums up.
    n_cells
        Number of cells with a known fate.

    Examples
    --------
    >>> scores = jv.markov.fate_scores(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, -1]))
    >>> scores.accuracy, round(scores.brier, 2), round(scores.log_score, 2), scores.n_cells
    (1.0, 0.05, -0.16, 2)
    """

    log_score: float
    accuracy: float
    brier: float
    calibration_error: float
    reliability: Reliability
    n_cells: int


def fate_scores(
    probabilities: Float[np.ndarray, "cells fates"], truth: Int[np.ndarray, " cells"], n_bins: int = 10
) -> FateScores:
    r"""Score fate probabilities :math:`F` against the known fates :math:`f`.

    Over the :math:`n` cells whose fate is known,

    .. math::
        \text{log score} = \frac{1}{n} \sum_i \log F_{i f_i}, \quad
        \text{Brier} = \frac{1}{n} \sum_i \sum_k (F_{ik} - [f_i = k])^2, \quad
        \text{ECE} = \frac{1}{m} \sum_{k=1}^{m} \sum_b \frac{n_{kb}}{n} |\bar F_{kb} - \bar y_{kb}|,

    where :math:`\bar F_{kb}` is the mean of :math:`F_{\cdot k}` and :math:`\bar y_{kb}` the part with fate :math:`k`
    among the :math:`n_{kb}` cells whose :math:`F_{ik}` is in the :math:`b`-th of the equally wide bins (Brier 1950;
    Good 1952; the calibration error by classes of Kull et al. 2019, which for two fates is the usual one). Where
    :math:`c` fates are equally probable and most probable, each counts as :math:`1/c` correct.

    Probabilities below the resolution of their floating-point type count as that in the log score, as in
    :class:`jaxvelo.fit.FateLikelihood`. The calibration error of few cells in many bins is too large by chance.

    Parameters
    ----------
    probabilities
        Fate probabilities, shape ``(cells, fates)``.
    truth
        Number of the known fate of each cell, -1 where it is not known, shape ``(cells,)``.
    n_bins
        Number of bins.

    Returns
    -------
    FateScores
        In double precision; NaN if no fate is known.

    Examples
    --------
    >>> probabilities, truth = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1])
    >>> round(jv.markov.fate_scores(probabilities, truth).accuracy, 2)
    0.67
    """
    values = np.asarray(probabilities)
    floor = np.finfo(values.dtype).eps
    known = np.asarray(truth) >= 0
    n_cells, n_fates = int(known.sum()), values.shape[1]
    values = values[known].astype(np.float64)
    happened = np.asarray(truth)[known, None] == np.arange(n_fates)[None]
    reliability = _reliability(values, happened, n_bins)
    if not n_cells:
        return FateScores(np.nan, np.nan, np.nan, np.nan, reliability, 0)
    is_most_probable = values == values.max(axis=1, keepdims=True)
    gaps = np.nan_to_num(np.abs(reliability.predicted - reliability.observed), nan=0)  # bins without cells
    return FateScores(
        float(np.log(np.maximum(values[happened], floor)).mean()),
        float((is_most_probable[happened] / is_most_probable.sum(axis=1)).mean()),
        float(((values - happened) ** 2).sum(axis=1).mean()),
        float((reliability.n_cells * gaps).sum() / (n_cells * n_fates)),
        reliability,
        n_cells,
    )


def _reliability(values: np.ndarray, happened: np.ndarray, n_bins: int) -> Reliability:
    n_fates = values.shape[1]
    bins = np.clip((values * n_bins).astype(int), 0, n_bins - 1)  # a probability of one is in the last bin
    places = (bins + n_bins * np.arange(n_fates)[None]).ravel()

    def sums(weights: np.ndarray | None) -> np.ndarray:
        counted = None if weights is None else weights.ravel()
        return np.bincount(places, counted, minlength=n_fates * n_bins).reshape(n_fates, n_bins)

    counts = sums(None)
    some = np.where(counts > 0, counts, np.nan)
    return Reliability(sums(values) / some, sums(happened) / some, counts)
