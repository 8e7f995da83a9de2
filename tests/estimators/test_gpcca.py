"""From a chain with known ends to macrostates, terminal states and fates."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import PrecomputedKernel
from jaxvelo.markov import absorption_probabilities, absorption_times
from tests.estimators.conftest import BRANCH, COLORS, TRUNK

pytestmark = pytest.mark.any_precision  # double precision, on the host

ENDS = ["left", "middle", "right"]


def names_of(states):
    return states.cat.categories.tolist()


def slow_fates(matrix, codes, n_fates):
    """Fates by a dense solve of the equations."""
    dense, transient = matrix.toarray(), codes < 0
    fates = np.eye(n_fates)[codes] * ~transient[:, None]
    inner = dense[np.ix_(transient, transient)]
    fates[transient] = np.linalg.solve(np.eye(len(inner)) - inner, dense[transient] @ fates)
    return fates


def test_from_macrostates_to_fates(estimator):
    assert estimator.compute_macrostates(4, n_cells=5, cluster_key="clusters") is estimator
    assert sorted(names_of(estimator.macrostates)) == ["left", "middle", "right", "trunk"]
    assert estimator.macrostates.value_counts().tolist() == [5] * 4
    clusters = estimator.adata.obs["clusters"].astype(str)
    chosen = estimator.macrostates.notna()
    assert (estimator.macrostates[chosen].astype(str) == clusters[chosen]).all()
    memberships = estimator.macrostates_memberships
    np.testing.assert_allclose(np.sum(memberships, axis=1), 1)
    assert memberships.colors[memberships.names.tolist().index("left")] == COLORS[1]
    np.testing.assert_allclose(estimator.coarse_T.sum(axis=1), 1)
    assert 0 < estimator.crispness <= 1

    estimator.predict_terminal_states("eigengap", n_cells=5)
    assert sorted(names_of(estimator.terminal_states)) == ENDS
    assert estimator.terminal_states_probabilities.max() == 1
    estimator.predict_initial_states(n_cells=5)
    assert names_of(estimator.initial_states) == ["trunk"]

    estimator.compute_fate_probabilities()
    codes = estimator.terminal_states.cat.codes.to_numpy()
    np.testing.assert_allclose(
        estimator.fate_probabilities, slow_fates(estimator.transition_matrix, codes, 3), atol=1e-7
    )
    assert estimator.fate_probabilities.names.tolist() == names_of(estimator.terminal_states)
    for name in ENDS:
        assert (estimator.fate_probabilities[clusters == name, name].X > 0.5).all()


def test_without_clusters_names_are_numbers(estimator):
    estimator.compute_macrostates(4, n_cells=5)
    assert names_of(estimator.macrostates) == ["0", "1", "2", "3"]
    assert len(set(estimator.macrostates_memberships.colors)) == 4


def test_all_cells_stand_for_a_macrostate(estimator):
    estimator.compute_macrostates(4, n_cells=None, cluster_key="clusters")
    assert estimator.macrostates.notna().all()
    memberships = estimator.macrostates_memberships
    assert (estimator.macrostates == memberships.names[memberships.X.argmax(axis=1)]).all()


def test_number_of_macrostates_by_eigengap_and_by_min_chi(estimator, logged):
    estimator.compute_macrostates(n_cells=5)
    assert len(names_of(estimator.macrostates)) == estimator.eigendecomposition["eigengap"] + 1 == 3
    logged()
    estimator.compute_macrostates([2, 6], n_cells=3)
    assert "choosing from 3 on" in (text := logged())
    assert f"choosing {len(names_of(estimator.macrostates))}" in text


def test_more_macrostates_than_schur_vectors(estimator):
    estimator.compute_schur(3)
    estimator.compute_macrostates(5, n_cells=3)
    assert estimator.schur_vectors.shape[1] >= 5


def test_arguments_of_schur_vectors(estimator):
    weights = np.linspace(1, 2, len(estimator))
    estimator.compute_macrostates(4, n_cells=5, initial_distribution=weights, which="LM", alpha=0.5)
    eta = weights / weights.sum()
    vectors = estimator.schur_vectors
    np.testing.assert_allclose(vectors.T @ (eta[:, None] * vectors), np.eye(vectors.shape[1]), atol=1e-10)
    expected = estimator.macrostates_memberships.X.T @ eta
    np.testing.assert_allclose(estimator.coarse_initial_distribution, expected)
    assert estimator.params["schur_vectors"]["which"] == "LM"
    series = pd.Series(weights, estimator.adata.obs_names).sample(frac=1, random_state=0)
    estimator.compute_schur(initial_distribution=series)
    np.testing.assert_allclose(estimator.schur_vectors, vectors)


def rotating():
    """Three blocks that follow each other, so that two eigenvalues are conjugate."""
    rng = np.random.default_rng(0)
    weights = np.kron(np.array([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), np.ones((8, 8)))
    weights *= rng.uniform(0.5, 1.5, weights.shape)
    return weights / weights.sum(axis=1, keepdims=True)


def test_a_pair_of_eigenvalues_is_not_split(logged):
    estimator = GPCCA(PrecomputedKernel(rotating()))
    estimator.compute_schur(5)
    assert np.iscomplex(estimator.eigendecomposition["D"][1])
    assert "would split pairs of conjugate eigenvalues: [2" in logged()
    estimator.compute_macrostates(2, n_cells=4)
    assert len(names_of(estimator.macrostates)) == 3
    assert "computing 3" in logged()


def test_a_single_macrostate(estimator, logged):
    estimator.compute_macrostates(1, n_cells=5, cluster_key="clusters")
    assert len(names_of(estimator.macrostates)) == 1
    assert estimator.coarse_T is None
    np.testing.assert_allclose(np.sum(estimator.macrostates_memberships), 1)
    assert "coarse_fwd" not in estimator.adata.uns
    logged()
    estimator.predict_terminal_states(n_cells=5)
    estimator.compute_fate_probabilities()
    estimator.predict_initial_states(n_cells=5, allow_overlap=True)
    assert "one macrostate only" in (text := logged())
    assert "one terminal state only" in text
    np.testing.assert_allclose(estimator.fate_probabilities, 1)
    drivers = estimator.compute_lineage_drivers()
    assert "stationary distribution" in logged()
    assert drivers.shape == (7, 5)


def test_criteria_for_terminal_states(estimator, logged):
    estimator.compute_macrostates(5, n_cells=5, cluster_key="clusters")
    stability = pd.Series(np.diag(estimator.coarse_T), estimator.coarse_T.index).sort_values()
    logged()
    estimator.predict_terminal_states("stability", n_cells=5, stability_threshold=0.99)
    assert set(names_of(estimator.terminal_states)) == set(stability.index[stability >= 0.99])
    assert "by stability of at least 0.99; not" in logged()
    for n_states in (1, 2):
        estimator.predict_terminal_states("top_n", n_cells=5, n_states=n_states)
        assert names_of(estimator.terminal_states) == stability.index[-n_states:].tolist()
    estimator.predict_terminal_states("eigengap", n_cells=5)
    assert names_of(estimator.terminal_states) == stability.index[-3:].tolist()
    estimator.predict_terminal_states("eigengap_coarse", n_cells=5)
    assert names_of(estimator.terminal_states) == stability.index[-2:].tolist()


def test_terminal_states_of_macrostates(complete):
    complete.set_terminal_states(["left, right", "middle"], n_cells=6, allow_overlap=True)
    assert names_of(complete.terminal_states) == ["left, right", "middle"]
    mixed = complete.macrostates_memberships[["left, right", "middle"]]
    np.testing.assert_array_equal(complete.terminal_states_memberships, mixed)
    assert complete.terminal_states.value_counts().to_dict() == {"left, right": 6, "middle": 6}
    complete.set_terminal_states(["left, right", "middle"], n_cells=6, agg="union")
    assert complete.terminal_states.value_counts().to_dict() == {"left, right": 12, "middle": 6}
    clusters = complete.adata.obs["clusters"][complete.terminal_states == "left, right"]
    assert clusters.value_counts()[["left", "right"]].tolist() == [6, 6]
    complete.set_terminal_states("left", n_cells=4)
    assert names_of(complete.terminal_states) == ["left"]
    complete.set_terminal_states(n_cells=4, allow_overlap=True)
    assert len(names_of(complete.terminal_states)) == 4


def test_terminal_states_of_cells(estimator):
    names = estimator.adata.obs_names
    estimator.set_terminal_states({"b": names[-3:], "a": [0, 1]})
    assert names_of(estimator.terminal_states) == ["b", "a"]
    assert estimator.terminal_states[[*names[:2], *names[-3:]]].tolist() == ["a", "a", "b", "b", "b"]
    assert estimator.terminal_states_memberships is None
    estimator.set_terminal_states({"b": names[-3:], "a": [0, 1]}, cluster_key="clusters")
    assert names_of(estimator.terminal_states) == ["right", "trunk"]
    series = estimator.terminal_states.cat.rename_categories(["x", "y"])
    estimator.set_terminal_states(series.sample(frac=1, random_state=0))
    assert estimator.terminal_states[names[0]] == "y"
    estimator.set_terminal_states({"clusters": ["right", "left"]})
    assert names_of(estimator.terminal_states) == ["right", "left"]
    assert estimator.adata.uns["term_states_fwd_colors"].tolist() == [COLORS[3], COLORS[1]]
    assert (estimator.terminal_states == "left").sum() == BRANCH


def test_fates_of_some_terminal_states(complete):
    complete.compute_fate_probabilities(["right", "left"])
    assert complete.fate_probabilities.names.tolist() == ["right", "left"]
    codes = complete.terminal_states.cat.set_categories(["right", "left"]).cat.codes.to_numpy()
    expected = slow_fates(complete.transition_matrix, codes, 2)
    np.testing.assert_allclose(complete.fate_probabilities, expected, atol=1e-7)
    complete.compute_fate_probabilities(["right, left", "middle"])
    assert complete.fate_probabilities.names.tolist() == ["left, right", "middle"]
    complete.compute_fate_probabilities("middle")
    np.testing.assert_array_equal(complete.fate_probabilities, 1)
    for method in ("kl_divergence", "entropy"):
        np.testing.assert_array_equal(complete.compute_lineage_priming(method), 0)


def test_absorption_times(complete):
    complete.compute_absorption_times(["left"])
    assert complete.absorption_times.columns.tolist() == ["left_mean"]
    dense, terminal = complete.transition_matrix.toarray(), (complete.terminal_states == "left").to_numpy()
    inner = dense[np.ix_(~terminal, ~terminal)]
    expected = np.linalg.solve(np.eye(len(inner)) - inner, np.ones(len(inner)))
    np.testing.assert_allclose(complete.absorption_times["left_mean"][~terminal], expected, rtol=1e-6)


def test_priming_and_drivers(complete):
    assert complete.priming_degree.between(0, 1).all()
    naive = complete.compute_lineage_priming(early_cells={"clusters": ["trunk"]})
    assert naive[:TRUNK].max() < 0.05 < naive[TRUNK:].min() + 1
    np.testing.assert_array_equal(complete.adata.obs["priming_degree_fwd"], naive)
    complete.adata.layers["counts"] = complete.adata.X * 2
    drivers = complete.compute_lineage_drivers(
        "left", layer="counts", cluster_key="clusters", clusters=["trunk", "left"]
    )
    assert drivers["left_corr"].is_monotonic_decreasing
    assert complete.lineage_drivers.index.tolist() == complete.adata.var_names.tolist()
    assert complete.lineage_drivers.columns[0] == "left_corr"


def test_drivers_of_raw_expression(complete):
    complete.adata.raw = complete.adata.copy()
    complete.compute_lineage_drivers(use_raw=True)
    assert "terminal_lineage_drivers" in complete.adata.raw.varm
    assert "terminal_lineage_drivers" not in complete.adata.varm
    complete.compute_fate_probabilities()
    assert "terminal_lineage_drivers" not in complete.adata.raw.varm


def test_renaming(complete):
    codes = complete.terminal_states.cat.codes
    complete.rename_terminal_states({"left": "L"})
    assert sorted(names_of(complete.terminal_states)) == ["L", "middle", "right"]
    assert sorted(complete.terminal_states_memberships.names) == ["L", "middle", "right"]
    assert (complete.terminal_states.cat.codes == codes).all()
    assert complete.fate_probabilities is None
    complete.rename_initial_states({"trunk": "root"})
    assert names_of(complete.initial_states) == ["root"]
    assert complete.rename_initial_states({}) is complete


def test_what_depends_on_other_results_goes_with_them(complete):
    complete.set_initial_states("trunk", n_cells=3)
    assert complete.fate_probabilities is not None
    complete.predict_terminal_states("top_n", n_states=2, n_cells=4)
    for name in ("fate_probabilities", "absorption_times", "priming_degree", "lineage_drivers"):
        assert getattr(complete, name) is None
    assert complete.initial_states is not None
    complete.compute_macrostates(4, n_cells=5)
    assert complete.terminal_states is complete.initial_states is None


def test_tsi(estimator):
    """Named are right; left, right; left, middle, right; and from four on all."""
    known = ["trunk", "left", "middle"]
    score = estimator.tsi(6, known, "clusters", n_cells=3, show_progress_bar=False)
    np.testing.assert_allclose(score, (0 + 1 + 2 + 3 + 3 + 3) / (1 + 2 + 3 + 3 + 3 + 3))
    assert estimator.macrostates is None
    np.testing.assert_allclose(estimator.tsi(3, known, "clusters", n_cells=3), (0 + 1 + 2) / (1 + 2 + 3))
    with pytest.raises(RuntimeError, match="terminal_states"):
        GPCCA(estimator.kernel).tsi(3)


def test_tsi_of_other_arguments_is_another(estimator, logged):
    arguments = 4, ENDS, "clusters"
    estimator.tsi(*arguments, n_cells=3, show_progress_bar=False)
    first = estimator.adata.uns["tsi_fwd"]
    estimator.tsi(3, n_cells=3)
    assert estimator.adata.uns["tsi_fwd"] is first
    estimator.tsi(*arguments, n_cells=4, show_progress_bar=False)
    second = estimator.adata.uns["tsi_fwd"]
    assert second is not first
    estimator.tsi(*arguments, n_cells=4, optimizer="nelder-mead", show_progress_bar=False)
    assert estimator.adata.uns["tsi_fwd"] is not second
    assert estimator.params["tsi"]["optimizer"] == "nelder-mead"
    rotated = GPCCA(PrecomputedKernel(rotating()))
    rotated.adata.obs["clusters"] = pd.Categorical(np.repeat(["a", "b", "c"], 8))
    logged()
    rotated.tsi(4, ["a"], "clusters", n_cells=3, show_progress_bar=False)
    assert "would split" not in logged()


def test_schur_vectors_of_an_earlier_matrix_are_not_used(estimator, logged):
    estimator.compute_macrostates(4, n_cells=5)
    before = estimator.schur_vectors
    other = estimator.transition_matrix.T.tocsr()
    other.data /= np.repeat(np.asarray(other.sum(axis=1)).ravel(), np.diff(other.indptr))
    estimator.kernel.restore(other, {})
    logged()
    estimator.predict_terminal_states("top_n", n_states=2, n_cells=5)
    assert "macrostates are those of another transition matrix" in logged()
    estimator.compute_macrostates(4, n_cells=5)
    assert "transition matrix is another than before" in logged()
    form = estimator.schur_matrix
    np.testing.assert_allclose(other @ estimator.schur_vectors, estimator.schur_vectors @ form, atol=1e-8)
    assert not np.allclose(before[:, :4], estimator.schur_vectors[:, :4], atol=1e-2)


def test_other_schur_vectors_remove_macrostates(complete):
    complete.compute_schur(25, alpha=0.5)  # more of the same
    assert complete.macrostates is not None
    complete.compute_schur(initial_distribution=np.linspace(1, 2, 80))
    assert complete.macrostates is complete.terminal_states is complete.coarse_T is complete.fate_probabilities is None
    assert "coarse_fwd" not in complete.adata.uns


def test_eigendecomposition(estimator, logged):
    estimator.compute_eigendecomposition(4)
    found = estimator.eigendecomposition
    matrix = estimator.transition_matrix
    np.testing.assert_allclose(matrix @ found["V_r"], found["V_r"] * found["D"], atol=1e-10)
    np.testing.assert_allclose(matrix.T @ found["V_l"], found["V_l"] * found["D"], atol=1e-10)
    np.testing.assert_allclose(found["stationary_dist"] @ matrix, found["stationary_dist"], atol=1e-10)
    estimator.compute_eigendecomposition(6, only_evals=True)
    assert set(estimator.eigendecomposition) == {"D", "eigengap", "params"}
    assert len(estimator.eigendecomposition["D"]) == 6
    estimator.compute_eigendecomposition(1000, only_evals=True)
    assert "80 cells only" in logged()


def test_fit_and_predict_are_a_shortcut(estimator):
    estimator.fit(4, n_cells=5, cluster_key="clusters").predict("top_n", n_states=3, n_cells=5)
    assert sorted(names_of(estimator.terminal_states)) == ENDS


def test_backward_kernels_have_keys_of_their_own(cells):
    estimator = GPCCA(PrecomputedKernel(cells.obsp["T_fwd"], adata=cells, backward=True))
    estimator.compute_macrostates(4, n_cells=5).predict_terminal_states(n_cells=5).compute_fate_probabilities()
    estimator.compute_lineage_drivers()
    assert {"macrostates_bwd", "term_states_bwd", "term_states_bwd_probs"} <= set(cells.obs)
    assert {"schur_vectors_bwd", "macrostates_bwd_memberships", "lineages_bwd"} <= set(cells.obsm)
    assert "initial_lineage_drivers" in cells.varm
    assert not [key for key in [*cells.obs, *cells.obsm, *cells.uns] if "fwd" in key]


def test_prints_as_in_cellrank(estimator, complete):
    assert repr(estimator) == "GPCCA[kernel=PrecomputedKernel[n=80], initial_states=None, terminal_states=None]"
    assert repr(complete).endswith("initial_states=['trunk'], terminal_states=['left', 'middle', 'right']]")
    assert len(estimator) == 80
    assert estimator.shape == (80, 80)


def test_arguments_of_cellrank_are_accepted(complete):
    petsc = {"use_petsc": True, "n_jobs": 2, "backend": "loky", "show_progress_bar": False, "preconditioner": "ilu"}
    before = complete.fate_probabilities.X
    complete.compute_schur(method="brandts", verbose=True)
    complete.compute_fate_probabilities(solver="direct", **petsc)
    np.testing.assert_array_equal(complete.fate_probabilities, before)
    complete.compute_absorption_times(solver="bicgstab", **petsc)


def test_long_steps_show_a_bar(estimator, monkeypatch):
    counted = []

    class Bar:
        def __init__(self, *, desc, disable, **_):
            self.desc, self.disable = desc, disable

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, n):
            counted.append((self.desc, self.disable))

    monkeypatch.setattr("jaxvelo.annotated.progress_bar.tqdm", Bar)
    estimator.compute_schur()
    estimator.compute_macrostates(4, n_cells=5, n_components=8, show_progress_bar=False)
    assert set(counted) == {("Schur vectors", None), ("Schur vectors", True)}  # None: in a terminal


def test_equations_are_counted():
    """Of chains that are too large to be factorised at once."""
    n_cells = 800
    matrix = sp.diags_array([0.3, 0.3, 0.4], offsets=[-1, 0, 1], shape=(n_cells, n_cells)).tocsr()
    counted = []
    ends = np.full(n_cells, -1)
    ends[::20], ends[10::20] = 0, 1
    absorption_probabilities(matrix, ends, 2, report=counted.append)
    assert counted == [1, 1, 1]
    absorption_times(matrix, ends, 2, report=counted.append)
    assert counted == [1] * (3 + 3 + 6)
