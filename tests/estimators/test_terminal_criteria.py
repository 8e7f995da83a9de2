import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._terminal_criteria import Evidence, choose_terminal, criterion_meant, explained

pytestmark = pytest.mark.any_precision

# A beginning that is left slowly, a place that is passed quickly, an end, and one that leaks into the other.
NAMES = ["beginning", "passage", "end", "leak"]
WAY = [[0.96, 0.04, 0.0, 0.0], [0.0, 0.75, 0.125, 0.125], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.02, 0.98]]
N_EACH = 5


def evidence_of(transition_matrix, names, **given):
    """Macrostates of five cells each, which all do the same."""
    matrix = np.asarray(transition_matrix, float)
    cells = np.kron(matrix, np.full((N_EACH, N_EACH), 1 / N_EACH))
    chain = CoarseChain(pd.DataFrame(matrix, names, names), None, pd.Series(1 / len(names), names))
    memberships = np.kron(np.eye(len(names)), np.ones((N_EACH, 1)))
    numbers = {"alpha": 1.0, "stability_threshold": None, "n_states": None, "n_cells": N_EACH, **given}
    return Evidence(sp.csr_matrix(cells), chain, memberships, np.linalg.eigvals(matrix), **numbers)


def test_retention_leaves_out_passages_and_beginnings():
    """Stability cannot tell a slow beginning from an end, and neither can the eigengap."""
    evidence = evidence_of(WAY, NAMES)
    choice = choose_terminal("retention", evidence)
    assert choice.names == ["end", "leak"]
    assert choose_terminal("stability", evidence).names == ["beginning", "end", "leak"]
    assert set(choose_terminal("eigengap", evidence).names) == {"beginning", "end", "leak"}


def test_retention_says_by_what_it_judged():
    evidence = evidence_of(WAY, NAMES)
    choice = choose_terminal("retention", evidence)
    # the gap is behind 1, 0.98 and 0.96, and what 0.75 belongs to is over after 1 / (1 - 0.75) steps
    assert choice.reason.startswith("keeping at least 60% of the walks that start there for 4 steps")
    matrix = np.array(WAY)
    later = {steps: np.ones(4) @ np.linalg.matrix_power(matrix, steps) for steps in (8, 40)}
    for state, name in enumerate(NAMES):
        # 2 / (1 - 0.96) and more are too many
        found = later[8 if name == "passage" else 40][state]
        assert choice.numbers[name] == f"keeps {matrix[state, state] ** 4:.0%}, draws {found:.2g}"
    text = explained(choice, evidence.coarse)
    assert text.index("end (keeps 100%") < text.index("leak (") < text.index("; not ") < text.index("beginning (")


def test_two_ends_that_hardly_exchange_are_both_ends():
    """However uneven it is, and though nothing else comes to them."""
    rare = [[1 - 1e-7, 1e-7, 0.0], [1e-12, 1 - 1e-12, 0.0], [0.2, 0.2, 0.6]]
    assert choose_terminal("retention", evidence_of(rare, ["a", "b", "c"])).names == ["a", "b"]


def test_a_process_that_goes_round_has_no_end():
    ring = 0.2 * np.eye(4) + 0.8 * np.roll(np.eye(4), 1, axis=1)
    with pytest.raises(ValueError, match=r"keeps at least 60% of.*'a': 'keeps 4%.*`\.set_terminal_states\(\)`"):
        choose_terminal("retention", evidence_of(ring, list("abcd")))


def test_what_is_lost_is_no_less_than_all():
    """Diagonals of the coarse matrix may be a little negative."""
    matrix = np.array([[1.0, 0, 0], [0.02, 0.98, 0], [0.6, 0.45, -0.05]])
    numbers = choose_terminal("retention", evidence_of(matrix, ["a", "b", "c"])).numbers
    assert numbers["c"].startswith("keeps 0%")


def test_few_eigenvalues_say_little_about_a_gap(logged):
    choose_terminal("retention", evidence_of(WAY, NAMES))
    assert "among 4 eigenvalues only" in logged()
    choose_terminal("retention", evidence_of(WAY, NAMES)._replace(eigenvalues=np.r_[np.diag(WAY), np.zeros(6)]))
    assert "eigenvalues only" not in logged()


def test_eigenvalues_are_asked_for():
    evidence = evidence_of(WAY, NAMES)._replace(eigenvalues=None)
    for method in ("retention", "eigengap"):
        with pytest.raises(RuntimeError, match=r"`\.compute_eigendecomposition\(\)`"):
            choose_terminal(method, evidence)
    with pytest.raises(ValueError, match="`alpha`"):
        choose_terminal("retention", evidence_of(WAY, NAMES, alpha="1"))
    with pytest.raises(ValueError, match="`n_cells`"):
        choose_terminal("retention", evidence_of(WAY, NAMES, n_cells=0))


def test_a_number_that_is_given_says_which_criterion_is_meant():
    assert criterion_meant(None, None) == "retention"
    assert criterion_meant(0.9, None) == "stability"
    assert criterion_meant(None, 3) == "top_n"


def test_retention_on_the_pancreas(shared):
    """By the reference's macrostates: stability misses Alpha among seven and nine, and takes Ductal among four."""
    with np.load(shared / "reference" / "pancreas_kernels.npz") as arrays:
        data, indices, indptr = (arrays[f"combined/0.8v+0.2c.{part}"] for part in ("data", "indices", "indptr"))
    transitions = sp.csr_matrix((data, indices, indptr))
    with np.load(shared / "reference" / "pancreas_estimators.npz") as arrays:
        for n_states in (4, 5, 7, 9):
            names = arrays[f"macro{n_states}/names"]
            chain = CoarseChain(
                pd.DataFrame(arrays[f"macro{n_states}/coarse_T"], names, names), None, pd.Series(1.0, names)
            )
            memberships, eigenvalues = arrays[f"macro{n_states}/memberships"], arrays["schur/eigenvalues"]
            choice = choose_terminal(
                "retention", Evidence(transitions, chain, memberships, eigenvalues, 1.0, None, None, 30)
            )
            assert set(choice.names) == {"Alpha", "Beta", "Epsilon"}
