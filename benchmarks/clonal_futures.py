"""How well kernels tell the later cells of clones that they have not seen, and what could be told at all."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

import jaxvelo as jv
from jaxvelo.dynamics import first_moments, neighborhood_weights

N_FOLDS, N_STEPS = 5, 10
STEPS = (1, 2, 3, 5, N_STEPS)
LEAST = 1e-7
"""Smallest probability that counts, as by a kernel that never leads to a day."""
WIDTHS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of a sister's neighbourhood, in units of the mean squared distance."""


class Futures(NamedTuple):
    """Cells with later cells of their own clones: which cells these are, and all cells of the day that they are of."""

    cell: Int[np.ndarray, " items"]
    own: Bool[np.ndarray, "items cells"]
    later: Bool[np.ndarray, "items cells"]

    @property
    def uniform(self) -> Float[np.ndarray, " items"]:
        """Loss of a uniform draw among the cells of the later day."""
        return -np.log(self.own.sum(axis=1) / self.later.sum(axis=1))


def measure(adata: Any, time_key: str = "time_info", clone_key: str = "X_clone") -> dict[str, dict[str, float]]:
    """Nats to a cell's next cells of its own clone, of clones held out: means over the cells.

    Clones are dealt out to five folds; what is fitted or chosen, is so on the clones of the other four. Of each kernel

    - ``"ten steps"``: minus the logarithm of the probability to be at these cells after ten steps, 1e-7 at least;
    - ``"of the day"``: the same, of all cells of that day; a kernel that never leads there knows nothing of it, and is
      uniform. ``"steps"`` is the number of steps that was chosen most often, ``"chosen"`` what it gives of the day;
    - ``"gain"``: what a uniform draw of the cells of that day has more than ``"chosen"``, with its standard error over
      the folds.

    What is told apart from kernels: ``counted states``, where clones of the other folds went to from the cell's
    annotated state; and, knowing the answer, ``the later states themselves``: cells of the same annotated states; and
    ``a sister's neighbours``: those near another later cell of the clone, of clones that have two (of these, the gain
    over a uniform draw is of the cells that have).
    """
    clones = sp.csr_matrix(adata.obsm[clone_key] != 0).astype(float)
    fold = np.random.default_rng(0).permutation(clones.shape[1]) % N_FOLDS
    day = adata.obs[time_key].astype(float).to_numpy()
    states = adata.obs["state_info"].astype(str).to_numpy()
    adata.layers["smooth"] = first_moments(neighborhood_weights(adata.obsp["connectivities"]), adata.X)
    of_no_clone = _without_clones(adata)
    folds: list[dict[str, dict[str, float]]] = []
    for number in range(N_FOLDS):
        seen = fold != number
        adata.obsm["seen"] = sp.csr_matrix(clones @ sp.diags_array(seen.astype(float)))
        adata.obs["growth"] = _growth(adata, clones, day, seen)
        held, others = (_futures(clones[:, chosen], day) for chosen in (~seen, seen))
        kernels = {**of_no_clone, **_real_time(adata, time_key)}
        kernels |= _fitted(adata, time_key, kernels)
        found = {name: _of_kernel(kernel.transition_matrix, held, others) for name, kernel in kernels.items()}
        uniform = float(held.uniform.mean())
        found["uniform"] = {"ten steps": uniform, "of the day": uniform, "chosen": uniform, "gain": 0.0}
        for name, losses in {
            "counted states": _counted_states(states, held, others),
            "the later states themselves": _later_states(states, held),
        }.items():
            found[name] = {"chosen": float(losses.mean()), "gain": float((held.uniform - losses).mean())}
        found["a sister's neighbours"] = _sisters(np.asarray(adata.obsm["X_pca"]), held, others)
        folds.append(found)
    return {name: _over_folds([found[name] for found in folds]) for name in folds[0]}


def _without_clones(adata: Any) -> dict[str, Any]:
    """Kernels that need no clones."""
    similar = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    cytotrace = jv.kernels.CytoTRACEKernel(adata).compute_cytotrace("smooth")
    return {
        "connectivities": similar,
        "CytoTRACE": cytotrace.copy().compute_transition_matrix(),
        "CytoTRACE and connectivities": 0.8 * cytotrace.copy().compute_transition_matrix("soft") + 0.2 * similar,
    }


def _real_time(adata: Any, time_key: str) -> dict[str, Any]:
    """Kernels of experimental time, with couplings of our own."""
    found = {}
    for name, arguments in {
        "real time": {},
        "real time, growth": {"growth": "growth"},
        "real time, chosen on clones": {"clones": "seen"},
        "real time, growth, chosen on clones": {"growth": "growth", "clones": "seen"},
    }.items():
        kernel = jv.kernels.RealTimeKernel(adata, time_key).compute_couplings(**arguments)
        found[name] = kernel.compute_transition_matrix(None, "all", 0.2)
    return found


def _fitted(adata: Any, time_key: str, kernels: dict[str, Any]) -> dict[str, Any]:
    """Combinations with connectivities, with their weights and numbers fitted on the clones that are seen."""
    similar = kernels["connectivities"]
    found = {}
    for name, kernel, steps in (
        ("CytoTRACE and connectivities", kernels["CytoTRACE and connectivities"], N_STEPS),
        ("real time and connectivities", 0.8 * kernels["real time, chosen on clones"] + 0.2 * similar, N_STEPS),
        ("real time and connectivities", 0.8 * kernels["real time, chosen on clones"] + 0.2 * similar, 1),
        ("real time, growth, and connectivities",
         0.8 * kernels["real time, growth, chosen on clones"] + 0.2 * similar, 1),
    ):  # fmt: skip
        objective = jv.objectives.FutureLikelihood(adata, time_key, "seen", steps=steps)
        fit = jv.tl.fit_kernel(kernel, objective, steps=50, prior=1.0, validation=None, progress=False)
        found[f"{name}, fitted at {steps} step{'s' if steps > 1 else ''}"] = fit.kernel
    return found


def _growth(adata: Any, clones: sp.csr_matrix, day: np.ndarray, seen: np.ndarray) -> Float[np.ndarray, " cells"]:
    """Growth in a unit of time: of the clones of each state that are seen, cells of the next day by cells of this."""
    state = adata.obs["state_info"].astype(str).to_numpy()
    table = clones[:, seen]
    growth = np.ones(len(day))
    for now, later in itertools.pairwise(np.unique(day)):
        descendants = np.asarray(table[day == later].sum(axis=0)).ravel()
        siblings = np.maximum(np.asarray(table[day == now].sum(axis=0)).ravel(), 1)
        of_cells = table[day == now]
        n_clones = np.asarray(of_cells.sum(axis=1)).ravel()
        rate = (of_cells @ (descendants / siblings) + 1) / np.maximum(n_clones, 1)
        by_state = pd.Series(rate).groupby(state[day == now]).transform("mean").to_numpy()
        growth[day == now] = by_state ** (1 / (later - now))
    return growth


def _futures(clones: sp.csr_matrix, day: Float[np.ndarray, " cells"]) -> Futures:
    """Cells of the next day of the same clones."""
    of_clone = (clones @ clones.T).toarray() > 0
    number = np.searchsorted(np.unique(day), day)
    later = number[None] == number[:, None] + 1
    own = of_clone & later
    cell = np.flatnonzero(own.any(axis=1))
    return Futures(cell, own[cell], later[cell])


def _of_kernel(matrix: sp.csr_matrix, held: Futures, others: Futures) -> dict[str, float]:
    """Losses of a kernel, with the number of steps that is best on the clones of the other folds."""
    seen = {n: of_day.mean() for n, (_, of_day) in _losses(matrix, others).items()}
    best = min(seen, key=lambda n: seen[n])
    losses = _losses(matrix, held)
    at_all, of_day = losses[N_STEPS]
    chosen = losses[best][1]
    return {
        "ten steps": float(at_all.mean()),
        "of the day": float(of_day.mean()),
        "steps": best,
        "chosen": float(chosen.mean()),
        "gain": float((held.uniform - chosen).mean()),
    }


def _losses(matrix: sp.csr_matrix, futures: Futures) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By the number of steps, of each cell: nats to its own later cells, of all cells and of those of the day."""
    reached = np.eye(matrix.shape[0])[futures.cell]
    found = {}
    for step in range(1, max(STEPS) + 1):
        reached = reached @ matrix
        if step in STEPS:
            own, day = ((reached * chosen).sum(axis=1) for chosen in (futures.own, futures.later))
            known = day > LEAST
            of_day = np.where(known, np.maximum(own, LEAST * day) / np.where(known, day, 1), np.exp(-futures.uniform))
            found[step] = -np.log(np.maximum(own, LEAST)), -np.log(of_day)
    return found


def _counted_states(states: np.ndarray, held: Futures, others: Futures) -> Float[np.ndarray, " items"]:
    """Loss of a draw by the states that cells of the same state led to in other clones, with one pseudo-count each."""
    names = np.unique(states)
    one_hot = (states[:, None] == names[None]).astype(float)
    shares = others.own / others.own.sum(axis=1, keepdims=True)
    counts = one_hot[others.cell].T @ (shares @ one_hot)
    by_day = held.later @ one_hot
    prior = by_day / by_day.sum(axis=1, keepdims=True)
    expected = one_hot[held.cell] @ counts + prior
    return _drawn_by_state(expected / expected.sum(axis=1, keepdims=True), one_hot, held)


def _later_states(states: np.ndarray, held: Futures) -> Float[np.ndarray, " items"]:
    """Loss of a draw by the states of the own later cells."""
    one_hot = (states[:, None] == np.unique(states)[None]).astype(float)
    return _drawn_by_state(held.own @ one_hot / held.own.sum(axis=1, keepdims=True), one_hot, held)


def _drawn_by_state(expected: np.ndarray, one_hot: np.ndarray, futures: Futures) -> Float[np.ndarray, " items"]:
    """Loss of a draw of a state, and of any cell of that state and of the day."""
    share = (futures.own @ one_hot) / np.maximum(futures.later @ one_hot, 1)
    return -np.log(np.maximum((expected * share).sum(axis=1), LEAST))


def _sisters(places: np.ndarray, held: Futures, others: Futures) -> dict[str, float]:
    """Loss of a draw of cells near another later cell of the clone; the width is chosen on other clones."""
    distances = cdist(places, places, "sqeuclidean")
    distances /= distances.mean()
    seen = [np.mean(_near_sisters(distances, others, width)[0]) for width in WIDTHS]
    losses, uniform = _near_sisters(distances, held, WIDTHS[int(np.argmin(seen))])
    return {"chosen": float(np.mean(losses)), "gain": float(np.mean(np.subtract(uniform, losses)))}


def _near_sisters(distances: np.ndarray, futures: Futures, width: float) -> tuple[list[float], list[float]]:
    """Losses of the other later cells of the clone, each from one of them, and those of a uniform draw."""
    losses, uniform = [], []
    # Cells of one clone and day have the same later cells, which count once.
    for own, later in {(own.tobytes(), later.tobytes()) for own, later in zip(futures.own, futures.later, strict=True)}:
        sisters = np.flatnonzero(np.frombuffer(own, dtype=bool))
        at_day = np.flatnonzero(np.frombuffer(later, dtype=bool))
        for sister in sisters if len(sisters) > 1 else ():
            cells = at_day[at_day != sister]
            logits = -distances[sister, cells] / width
            weights = np.exp(logits - logits.max())
            share = weights[np.isin(cells, sisters)].sum() / weights.sum()
            losses.append(-np.log(max(share, LEAST)))
            uniform.append(-np.log((len(sisters) - 1) / len(cells)))
    return losses, uniform


def _over_folds(folds: list[dict[str, float]]) -> dict[str, float]:
    """Means of each number; of the gain, with its standard error; the steps that were chosen most often."""
    found = {key: float(np.mean([of[key] for of in folds])) for key in folds[0]}
    if "steps" in found:
        found["steps"] = float(pd.Series([of["steps"] for of in folds]).mode()[0])
    found["se"] = float(np.std([of["gain"] for of in folds], ddof=1) / N_FOLDS**0.5)
    return found
