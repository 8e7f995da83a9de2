"""Cells on one trajectory with known kinetics, written from the formulas, in float64 and without JAX."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import brentq

from jaxvelo.dynamics import first_moments, neighborhood_weights


class Rates(NamedTuple):
    """Kinetics of genes in units of 1/beta: alpha is the transcription rate, g the ratio of gamma to beta."""

    alpha: np.ndarray
    g: np.ndarray
    switch: np.ndarray
    scaling: np.ndarray


class Cells(NamedTuple):
    unspliced: np.ndarray  # moments, (cells, genes), as are all that follow
    spliced: np.ndarray
    weights: sp.csr_matrix
    time: np.ndarray
    exact_unspliced: np.ndarray
    exact_spliced: np.ndarray
    velocity: np.ndarray


def decay(tau, g):
    """(exp(-g tau) - exp(-tau)) / (1 - g)."""
    tau, g = np.broadcast_arrays(np.asarray(tau, float), np.asarray(g, float))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (np.exp(-g * tau) - np.exp(-tau)) / (1 - g)
    return np.where(np.isclose(g, 1, atol=1e-9), tau * np.exp(-tau), value)


def curve(time, alpha, g, switch):
    """Unspliced and spliced molecules at times since the gene was switched on; beta is one."""
    on, off = np.minimum(time, switch), np.maximum(time - switch, 0)
    u = alpha * (1 - np.exp(-on))
    s = alpha / g * (1 - np.exp(-g * on)) - alpha * decay(on, g)
    return u * np.exp(-off), s * np.exp(-g * off) + u * decay(off, g)


def decay_time(level_u, level_s, g):
    """Time since the switch after which curves end: 0.2 % are left, and 0.05 of the larger level at most."""
    share = 0.05 / max(level_u, level_s)
    y = brentq(lambda y: (1 + y) * np.exp(-y) - share, 0, 50) if share < 1 else 0
    return max(y, np.log(500)) / min(g, 1)


def line_graph(n_cells, k):
    """Each cell and its k nearest cells on a line."""
    first = np.clip(np.arange(n_cells) - k // 2, 0, n_cells - k - 1)
    columns = (first[:, None] + np.arange(k + 1)).ravel()
    rows = np.repeat(np.arange(n_cells), k + 1)
    off_diagonal = rows != columns
    graph = sp.csr_matrix((np.ones(off_diagonal.sum()), (rows[off_diagonal], columns[off_diagonal])), (n_cells,) * 2)
    return graph.maximum(graph.T)


def random_rates(n_genes, seed):
    """Rates that a few hundred cells can tell: neither a straight line nor a corner."""
    rng = np.random.default_rng(seed)
    g = np.exp(rng.uniform(np.log(0.25), np.log(1.5), n_genes))
    return Rates(
        alpha=np.exp(rng.normal(1.0, 1.0, n_genes)),
        g=g,
        switch=rng.uniform(2.0, 5.0, n_genes),
        scaling=np.exp(rng.normal(-0.5, 0.5, n_genes)),
    )


def simulate(rates, n_cells=400, k=20, noise=0.3, off=3.0, seed=0, dtype=np.float32):
    """Cells even in time, from switching on to ``off`` mean lifetimes after switching off, and their moments.

    The noise of the counts is normal, ``noise`` times the largest count, so that some moments are zero.
    """
    rng = np.random.default_rng(seed)
    position = np.linspace(0, 1, n_cells)[:, None]
    total = rates.switch + off / np.minimum(rates.g, 1)
    time = position * total
    u, s = curve(time, *rates[:3])
    velocity = u - rates.g * s
    u_observed = u * rates.scaling
    weights = neighborhood_weights(line_graph(n_cells, k))
    counts = [x + noise * x.max(axis=0) * rng.normal(size=x.shape) for x in (u_observed, s)]
    moments = [np.maximum(first_moments(weights, x), 0).astype(dtype) for x in counts]
    return Cells(*moments, weights, time, u_observed, s, velocity)
