"""From a large chain to fates, its memory and what it finds, as JSON on standard output.

Usage: ``python -m benchmarks.our_large_chain FILE.npz [N_STATES]``
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks.timing import seconds
from benchmarks.tree_chain import load
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._initial_choice import choose_initial
from jaxvelo.markov import absorption_probabilities, coarse_grain, schur

N_COMPONENTS, N_CELLS = 20, 30
LATE = 0.9


def main(file: str, n_states: int) -> dict[str, Any]:
    """Compute Schur vectors, macrostates and fates once."""
    chain = load(file)
    transitions, time_of, fate_of = chain
    n_fates = int(fate_of.max()) + 1
    x = np.ones(len(time_of))
    product = seconds(lambda: transitions @ x, repeats=5)["min"]
    before = psutil.Process().memory_info().rss
    times, peaks = {}, {}

    def timed(name, step):
        start = time.perf_counter()
        result = step()
        times[name] = time.perf_counter() - start
        peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        return result

    vectors = timed("schur", lambda: schur(transitions, max(N_COMPONENTS, n_states + 1)))
    if vectors.matrix[n_states, n_states - 1] != 0:  # a pair of conjugate eigenvalues is not split
        n_states += 1
    coarse = timed("macrostates", lambda: coarse_grain(vectors, n_states))
    # The cells that stand for each state, and what is true of them.
    best = np.argpartition(-coarse.memberships, N_CELLS, axis=0)[:N_CELLS].T
    late = np.median(time_of[best], axis=1) > LATE
    fates = np.array([np.bincount(fate_of[cells], minlength=n_fates).argmax() for cells in best])
    terminal = np.full(len(time_of), -1)
    for number, state in enumerate(np.flatnonzero(late)):
        terminal[best[state]] = number
    macrostates = CoarseChain(
        pd.DataFrame(coarse.transition_matrix), pd.Series(coarse.stationary), pd.Series(coarse.initial)
    )
    first = int(choose_initial(macrostates, 1)[0][0])
    found = timed("fates", lambda: absorption_probabilities(transitions, terminal, int(late.sum())))
    matrix = sum(part.nbytes for part in (transitions.data, transitions.indices, transitions.indptr))
    return {
        "cells": len(time_of),
        "times": times,
        "total": sum(times.values()),
        "product": product,
        "matrix": matrix,
        "peaks": peaks,
        "residual": float(vectors.residual),
        "crispness": float(coarse.crispness),
        "fates": n_fates,
        "fates_found": len(set(fates[late])),
        "initial_time": float(np.median(time_of[best[first]])),
        "row_sum_defect": float(found.row_sum_defect),
        "error": float(found.error),
        "outcome": int(found.outcome),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 6)))
