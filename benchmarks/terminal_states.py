"""Which macrostates each criterion takes for terminal, against the ends that are known.

Usage: ``python -m benchmarks.terminal_states [--n-states auto,4,5,7,9,12] [--cells 1000] [--seeds 10,11,12]``

On the pancreas and on simulated trees (2 fates; 3, one of them with 5 % of the cells; 5 that branch one after the
other), after the whole way from counts to 0.8 of the velocities' and 0.2 of the connectivities' kernel. A macrostate is
an end if most of its ten most typical cells are of one known end. *Right* counts the ends that are chosen, *missed*
those that have a macrostate which is not chosen, *false* the other states that are chosen, a second one for the same
end among them. Ends that no macrostate stands for are no criterion's fault; how many there are stands beside.
``top_n`` is told the number of ends, which the others have to find.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd

import jaxvelo as jv
from benchmarks.known_ends import TREES, KnownEnds, pancreas, simulated
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._terminal_criteria import CRITERIA, Evidence, choose_terminal
from jaxvelo.markov import Schur, coarse_grain, eigengap, schur

N_COMPONENTS, N_CELLS, N_TYPICAL = 20, 30, 10


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-states", default="auto,4,5,7,9,12", help="comma-separated numbers of macrostates")
    parser.add_argument("--cells", default="1000", help="comma-separated numbers of cells of the simulations")
    parser.add_argument("--seeds", default="10,11,12", help="comma-separated seeds of the simulations")
    arguments = parser.parse_args()
    jv.settings.verbosity = "error"
    print("Ends right / missed / false.\n")
    print(f"| cells | macrostates | ends with a macrostate | {' | '.join(CRITERIA)} |")
    print("|" + "---|" * (3 + len(CRITERIA)))
    totals: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4, int))
    for name, known in data_sets(arguments.cells.split(","), arguments.seeds.split(",")):
        vectors = schur(known.transitions, N_COMPONENTS)
        for wanted in arguments.n_states.split(","):
            n_states = eigengap(vectors.eigenvalues) if wanted == "auto" else int(wanted)
            # A single macrostate leaves nothing to choose, and a pair of conjugate eigenvalues is not split.
            if n_states < 2 or (n_states < N_COMPONENTS and vectors.matrix[n_states, n_states - 1] != 0):
                continue
            n_there, found = judge(known, vectors, n_states)
            shown = f"{wanted} ({n_states})" if wanted == "auto" else wanted
            cells = " | ".join(" / ".join(map(str, counts)) for counts in found.values())
            print(f"| {name} | {shown} | {n_there} of {len(known.ends)} | {cells} |", flush=True)
            for criterion, (right, missed, false) in found.items():
                totals[criterion] += right, missed, false, missed == false == 0
    sums = [f"{right} / {missed} / {false}, all right {whole} ×" for right, missed, false, whole in totals.values()]
    print(f"| together | | | {' | '.join(sums)} |")


def data_sets(n_cells: list[str], seeds: list[str]) -> Iterator[tuple[str, KnownEnds]]:
    """Give the pancreas, and each tree of each size and seed."""
    yield "pancreas", pancreas()
    for size in map(int, n_cells):
        for seed in map(int, seeds):
            for name, tree in TREES.items():
                yield f"{name}, {size:,} cells, seed {seed}", simulated(tree, size, seed)


def judge(known: KnownEnds, vectors: Schur, n_states: int) -> tuple[int, dict[str, tuple[int, int, int]]]:
    """Give how many ends have a macrostate, and for each criterion how many it finds, misses and makes up."""
    coarse = coarse_grain(vectors, n_states)
    memberships = np.asarray(coarse.memberships)
    names = [str(number) for number in range(n_states)]
    end_of = {}
    for state, name in enumerate(names):
        typical = np.argsort(-memberships[:, state], kind="stable")[:N_TYPICAL]
        cluster = pd.Series(known.clusters[typical]).mode()[0]
        if cluster in known.ends and known.may_end[typical].mean() >= 0.5:
            end_of[name] = cluster
    there = set(end_of.values())
    chain = CoarseChain(
        pd.DataFrame(np.asarray(coarse.transition_matrix), names, names),
        None,
        pd.Series(np.asarray(coarse.initial), names),
    )
    found = {}
    for criterion in CRITERIA:
        number = len(known.ends) if criterion == "top_n" else None
        evidence = Evidence(
            known.transitions,
            chain,
            memberships,
            vectors.eigenvalues,
            1.0,
            None,
            number and min(number, n_states),
            N_CELLS,
        )
        try:
            chosen = choose_terminal(criterion, evidence).names
        except ValueError:  # it finds nothing
            chosen = []
        right = len({end_of[name] for name in chosen if name in end_of})
        found[criterion] = right, len(there) - right, len(chosen) - right
    return len(there), found


if __name__ == "__main__":
    main()
