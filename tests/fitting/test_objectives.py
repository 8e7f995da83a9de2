"""Objectives from the keys of an AnnData object, against plain loops; and what is said about bad input."""

import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo import fit, objectives
from jaxvelo.kernels import VelocityKernel
from tests.bent_line import N_CELLS
from tests.fitting.losses import CLOSE, KEY, loss_of, losses_of
from tests.snapshot import unchanged


class TestCrossBoundary:
    TRANSITIONS = (("early", "middle"), ("middle", "late"))

    def test_is_one_minus_cbc(self, cells, kernel):
        mixed = cells.obs["clusters"].to_numpy().astype(object)
        mixed[[2, 9]] = "middle"
        cells.obs["mixed"] = pd.Categorical(mixed)
        with unchanged(cells):
            objective = objectives.CrossBoundary(cells, self.TRANSITIONS, "mixed")
        kernel = kernel.copy()
        kernel.adata = cells
        scores = [kernel.cbc(*pair, cluster_key="mixed", rep="X_pca") for pair in self.TRANSITIONS]
        assert len(scores[0]) != len(scores[1])  # so that the mean over cells would be another number
        expected = 1 - np.mean([score.mean() for score in scores])
        assert np.isclose(loss_of(objective, kernel), expected, **CLOSE)
        assert len(objective.cell) == sum(map(len, scores))

    def test_other_keys(self, cells, kernel):
        objective = objectives.CrossBoundary(cells, [("middle", "late")], "clusters", "X_umap", "other")
        expected = 1 - kernel.cbc("middle", "late", "clusters", "X_umap", "other").mean()
        assert np.isclose(loss_of(objective, kernel), expected, **CLOSE)

    def test_labels_that_are_not_categorical(self, cells, kernel):
        one = objectives.CrossBoundary(cells, [("group 0", "group 1")], "label")
        other = objectives.CrossBoundary(cells, [("early", "middle")], "clusters")
        assert loss_of(one, kernel) == loss_of(other, kernel)

    BAD: ClassVar = {
        "unknown cluster": ({"transitions": [("early", "Beta")]}, ValueError, r"found \['Beta'\]. There are \['early'"),
        "unknown source": ({"transitions": [("Beta", "early")]}, ValueError, r"found \['Beta'\]"),
        "no transition": ({"transitions": []}, ValueError, "at least one pair"),
        "missing clusters": ({"cluster_key": "leiden"}, KeyError, r"adata.obs\['leiden'\].*'clusters'"),
        "numbers": ({"cluster_key": "pseudotime"}, TypeError, "to be categorical.*astype"),
        "missing representation": ({"rep": "X_lsi"}, KeyError, r"adata.obsm\['X_lsi'\].*X_pca.*scanpy.pp.pca"),
        "missing graph": ({"graph_key": "nn"}, KeyError, r"adata.obsp\['nn'\].*distances.*jaxvelo.pp.neighbors"),
        "one name": ({"transitions": ["early"]}, ValueError, "pairs of source and target"),
        "a pair alone": ({"transitions": ("early", "late")}, ValueError, "pairs of source and target"),
        "no list": ({"transitions": None}, TypeError, "list of pairs .* as `transitions`, found `NoneType`"),
        "no pair": ({"transitions": [3]}, ValueError, "pairs of source and target in `transitions`, found `3`"),
        "three": ({"transitions": [("early", "middle", "late")]}, ValueError, "pairs of source and target"),
    }

    @pytest.mark.parametrize("name", BAD)
    def test_bad_input(self, cells, name):
        arguments, error, message = self.BAD[name]
        arguments = {"transitions": [("early", "middle")], "cluster_key": "clusters", **arguments}
        with unchanged(cells), pytest.raises(error, match=message):
            objectives.CrossBoundary(cells, **arguments)

    def test_bad_values(self, cells):
        cells.obsm["X_pca"][7, 0] = np.nan
        with pytest.raises(ValueError, match=r"obsm\['X_pca'\].*found 1 cells without, the first of them 7"):
            objectives.CrossBoundary(cells, [("early", "middle")], "clusters")
        cells.obsp["none"] = sp.csr_matrix((N_CELLS, N_CELLS))
        with pytest.raises(ValueError, match=r"cells of 'early' with neighbours in 'middle' in `adata.obsp\['none'\]`"):
            objectives.CrossBoundary(cells, [("early", "middle")], "clusters", "X_umap", "none")
        with pytest.raises(TypeError, match="to be an AnnData object"):
            objectives.CrossBoundary(cells.X, [("early", "middle")], "clusters")


class TestFutureLikelihood:
    @staticmethod
    def check(objective, kernel, matrix, futures, steps=1):
        after = np.linalg.matrix_power(matrix, steps)
        eps = np.finfo(np.float64 if jax.config.jax_enable_x64 else np.float32).eps
        cell, losses = losses_of(objective, kernel)
        assert cell.tolist() == sorted(futures)
        expected = [-np.log(max(after[i, sorted(futures[i])].sum(), eps)) for i in cell]
        np.testing.assert_allclose(losses, expected, rtol=CLOSE["rtol"] * 10, atol=1e-5)
        assert (np.array(expected) < -np.log(eps)).any()

    @staticmethod
    def futures(days, allowed=lambda i, j: True):
        times = sorted({day for day in days if not pd.isna(day)})
        following = dict(itertools.pairwise(times))
        found = {
            i: [j for j in range(N_CELLS) if days[j] == following.get(days[i], "none") and allowed(i, j)]
            for i in range(N_CELLS)
        }
        return {i: later for i, later in found.items() if later}

    def test_time_alone(self, cells, kernel, matrix):
        with unchanged(cells):
            objective = objectives.FutureLikelihood(cells, "day", steps=3)
        days = cells.obs["day"].tolist()
        self.check(objective, kernel, matrix, self.futures(days), steps=3)
        assert objective.future.shape == (N_CELLS, 2)  # cells of one day share their column

    def test_missing_times_and_numbers(self, cells, kernel, matrix):
        days = np.floor(np.linspace(0, 3, N_CELLS) * 0.99)
        days[[3, 30]] = np.nan
        cells.obs["when"] = days
        objective = objectives.FutureLikelihood(cells, time_key="when", steps=2)
        self.check(objective, kernel, matrix, self.futures(days.tolist()), steps=2)

    def test_ordered_categories(self, cells, kernel, matrix):
        """Their order counts, not that of the alphabet."""
        names = np.array(["E7", "E10", "E11"])
        codes = np.floor(np.linspace(0, 3, N_CELLS) * 0.99).astype(int)
        cells.obs["stage"] = pd.Categorical(names[codes], names, ordered=True)
        objective = objectives.FutureLikelihood(cells, "stage", steps=2)
        self.check(objective, kernel, matrix, self.futures(codes.tolist()), steps=2)

    def test_levels_without_cells_are_no_time_points(self, cells, kernel, matrix):
        """As they stay behind where cells were removed."""
        codes = np.floor(np.linspace(0, 3, N_CELLS) * 0.99).astype(int)
        cells.obs["stage"] = pd.Categorical.from_codes(2 * codes + 1, list("abcdefg"), ordered=True)
        objective = objectives.FutureLikelihood(cells, "stage", steps=2)
        self.check(objective, kernel, matrix, self.futures(codes.tolist()), steps=2)

    def test_numbers_count_whatever_the_order_of_the_categories(self, cells, kernel, matrix):
        days = np.floor(np.linspace(0, 3, N_CELLS) * 0.99)
        cells.obs["when"] = pd.Categorical(days, [2.0, 0.0, 1.0])
        objective = objectives.FutureLikelihood(cells, "when", steps=2)
        self.check(objective, kernel, matrix, self.futures(days.tolist()), steps=2)

    @pytest.mark.parametrize("form", ["dense", "sparse", "explicit zeros", "frame", "nullable"])
    def test_clones_in_obsm(self, cells, kernel, matrix, form):
        """Some cells are in several clones, some in none."""
        rng = np.random.default_rng(0)
        clones = (rng.uniform(size=(N_CELLS, 5)) < 0.3).astype(float)
        clones[::7] = 0
        assert (clones.sum(axis=1) > 1).any()
        stored = {"dense": clones, "sparse": sp.csr_matrix(clones), "frame": pd.DataFrame(clones, cells.obs_names)}
        if form == "explicit zeros":
            sparse = sp.csr_matrix(np.ones((N_CELLS, 5)))
            sparse.data[:] = clones.ravel()
            stored[form] = sparse
        elif form in ("frame", "nullable"):
            names = [f"clone {i}" for i in range(5)]
            stored[form] = pd.DataFrame(clones, cells.obs_names, names).astype("Int64" if form == "nullable" else float)
        cells.obsm["X_clone"] = stored[form]
        with unchanged(cells):
            objective = objectives.FutureLikelihood(cells, "day", "X_clone", steps=4)
        futures = self.futures(cells.obs["day"].tolist(), lambda i, j: clones[i] @ clones[j] > 0)
        self.check(objective, kernel, matrix, futures, steps=4)

    def test_clones_in_obs(self, cells, kernel, matrix):
        clones = np.array(["a", "b", None, "c"], dtype=object)[np.arange(N_CELLS) % 4]
        cells.obs["clone"] = clones
        with unchanged(cells):
            objective = objectives.FutureLikelihood(cells, "day", "clone", steps=4)
        same = lambda i, j: clones[i] is not None and clones[i] == clones[j]  # noqa: E731
        self.check(objective, kernel, matrix, self.futures(cells.obs["day"].tolist(), same), steps=4)

    def test_numbers_as_texts(self, cells, kernel, matrix):
        """In the order of the numbers: 10 after 9."""
        days = 8 + np.floor(np.linspace(0, 3, N_CELLS) * 0.99)
        for form in (str, "category", "string"):
            cells.obs["when"] = pd.Series(days.astype(int).astype(str), index=cells.obs_names).astype(form)
            objective = objectives.FutureLikelihood(cells, "when", steps=2)
            self.check(objective, kernel, matrix, self.futures(days.tolist()), steps=2)

    def test_table_in_another_order(self, cells):
        future = pd.DataFrame(np.eye(N_CELLS, k=1), cells.obs_names, cells.obs_names)
        expected = objectives.FutureLikelihood(cells, future=future.to_numpy())
        found = objectives.FutureLikelihood(cells, future=future.iloc[::-1, ::-1])
        np.testing.assert_array_equal(found.cell, expected.cell)
        np.testing.assert_array_equal(found.future, expected.future)
        with pytest.raises(KeyError, match=r"not in `future.index`"):
            objectives.FutureLikelihood(cells, future=future.rename(index={"cell_0": "x"}))

    @pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.coo_array])
    def test_matrix(self, cells, kernel, matrix, form):
        future = np.zeros((N_CELLS, N_CELLS))
        future[5, [7, 9]] = 1
        future[6, [7, 9]] = 2
        future[20, 24] = 0.5
        objective = objectives.FutureLikelihood(cells, future=form(future), steps=2)
        self.check(objective, kernel, matrix, {5: [7, 9], 6: [7, 9], 20: [24]}, steps=2)
        assert objective.future.shape == (N_CELLS, 2)

    BAD: ClassVar = {
        "nothing": ({"time_key": None}, ValueError, "one of `time_key` and `future`"),
        "both": ({"future": np.eye(N_CELLS)}, ValueError, "one of `time_key` and `future`"),
        "missing time": ({"time_key": "stage"}, KeyError, r"adata.obs\['stage'\].*experimental time"),
        "continuous": ({"time_key": "pseudotime"}, ValueError, "found 60 values for 60 cells. Cut a continuous time"),
        "one time": ({"time_key": "constant"}, ValueError, "at least two time points"),
        "missing clones": ({"clone_key": "X_clone"}, KeyError, r"'X_clone'.*clones in `adata.obsm`"),
        "clones at one time": ({"clone_key": "label"}, ValueError, "do clones occur at two time points"),
        "shape": ({"time_key": None, "future": np.eye(3)}, ValueError, r"`future` of shape \(60, 60\).*found \(3, 3\)"),
        "empty": ({"time_key": None, "future": np.zeros((60, 60))}, ValueError, "known later cells, found none"),
        "steps": ({"steps": 0}, ValueError, "`steps` to be an integer of at least 1"),
        "no time": ({"time_key": None, "future": np.eye(60), "clone_key": "label"}, ValueError, "clone_key"),
        "names": ({"time_key": "label"}, TypeError, r"numbers or ordered categories, found .*ordered=True"),
        "NaN clones": ({"clone_key": "X_missing"}, ValueError, "X_missing.*found 60 that are not"),
        "text clones": ({"clone_key": "X_text"}, ValueError, r"numbers in `adata.obsm\['X_text'\]`"),
        "not finite": ({"time_key": None, "future": np.full((60, 60), np.nan)}, ValueError, "finite.*future"),
    }  # fmt: skip

    @pytest.mark.parametrize("name", BAD)
    def test_bad_input(self, cells, name):
        cells.obs["constant"] = 1
        cells.obsm["X_missing"] = np.stack([np.ones(N_CELLS), np.full(N_CELLS, np.nan)], axis=1)
        cells.obsm["X_text"] = np.full((N_CELLS, 2), "a")
        arguments, error, message = self.BAD[name]
        with unchanged(cells), pytest.raises(error, match=message):
            objectives.FutureLikelihood(cells, **{"time_key": "day", **arguments})


class TestTimeGain:
    @pytest.mark.parametrize("chosen", [None, {"clusters": ["early", "late"]}, [3, 5], ["cell_8"]])
    def test_by_a_loop(self, cells, kernel, matrix, chosen):
        cells.obs["far"] = cells.obs["pseudotime"] + 100  # far from zero, which must not cost precision
        with unchanged(cells):
            objective = objectives.TimeGain(cells, "far", chosen)
        time = cells.obs["pseudotime"].to_numpy()
        neighbors = cells.obsp["connectivities"].toarray()
        cell, losses = losses_of(objective, kernel)
        expected_cells = {
            None: list(range(N_CELLS)),
            "early": np.flatnonzero(cells.obs["clusters"] != "middle").tolist(),
            3: [3, 5],
            "cell_8": [8],
        }[None if chosen is None else "early" if isinstance(chosen, dict) else chosen[0]]
        assert cell.tolist() == expected_cells
        for i, loss in zip(cell, losses, strict=True):
            later = [j for j in np.flatnonzero(neighbors[i]) if time[j] > time[i]]
            total = sum(time[j] - time[i] for j in later)
            shares = [((time[j] - time[i]) / total, matrix[i, j]) for j in later]
            assert np.isclose(loss, sum(share * np.log(share / chance) for share, chance in shares), **CLOSE)

    @pytest.mark.parametrize("form", [float, str, "category", "Float64"])
    def test_numbers_of_all_types(self, cells, form):
        expected = objectives.TimeGain(cells, "pseudotime").time
        cells.obs["stored"] = cells.obs["pseudotime"].astype(form)
        np.testing.assert_allclose(objectives.TimeGain(cells, "stored").time, expected, rtol=1e-6)

    def test_bad_input(self, cells):
        cells.obs["broken"] = cells.obs["pseudotime"].where(np.arange(N_CELLS) != 9)
        cells.obs["flag"] = True
        with unchanged(cells):
            with pytest.raises(KeyError, match=r"adata.obs\['dpt'\].*pseudotime"):
                objectives.TimeGain(cells, "dpt")
            with pytest.raises(ValueError, match=r"numbers in `adata.obs\['clusters'\]`, found the type category"):
                objectives.TimeGain(cells, "clusters")
            with pytest.raises(TypeError, match="found bool"):
                objectives.TimeGain(cells, "flag")
            with pytest.raises(ValueError, match=r"adata.obs\['broken'\].*found 1 cells without, the first of them 9"):
                objectives.TimeGain(cells, "broken")
            with pytest.raises(ValueError, match=r"found \['Beta'\]"):
                objectives.TimeGain(cells, "pseudotime", {"clusters": "Beta"})


def test_columns_of_any_type(cells):
    """Missing numbers are said; zeros and ones are no mask where they could be indices; categories must differ."""
    ends = {"left": np.arange(4), "right": np.arange(56, 60)}
    marks = np.isin(np.arange(N_CELLS), ends["left"])
    cells.obs["days"] = pd.array([*range(N_CELLS - 1), None], dtype="Int64")
    cells.obs["mixed"] = pd.Categorical([1, "1", "a"] * 20, categories=[1, "1", "a"])
    with unchanged(cells):
        with pytest.raises(ValueError, match=r"adata.obs\['days'\]`, found 1 cells without, the first of them 59"):
            objectives.TimeGain(cells, "days")
        with pytest.raises(ValueError, match=r"`cells`, found 60 numbers of 0 and 1 alone.*Pass booleans"):
            objectives.TimeGain(cells, "pseudotime", marks.astype(int))
        with pytest.raises(ValueError, match=r"`terminal\['left'\]`, found 60 numbers of 0 and 1 alone"):
            objectives.FateLikelihood(cells, {"left": [7]}, {**ends, "left": marks.astype(int)})
        with pytest.raises(ValueError, match=r"categories of `adata.obs\['mixed'\]`.*several that read \['1'\]"):
            objectives.FateLikelihood(cells, "mixed", ends)
        known = objectives.FateLikelihood(cells, {"left": [7]}, {**ends, "left": marks.astype(str)})
        objective = objectives.FateLikelihood(cells, {"left": [7]}, ends)
    np.testing.assert_array_equal(known.terminal, objective.terminal)


class TestHeldOutVelocity:
    def test_names(self, cells, kernel):
        with unchanged(cells):
            objective = objectives.HeldOutVelocity(cells)
        assert objective.features_name == kernel.features_name
        assert list(kernel.features) == [objective.features_name]
        subset = VelocityKernel(cells, vkey="velocity2", gene_subset="chosen").compute_transition_matrix()
        other = objectives.HeldOutVelocity(cells, vkey="velocity2", gene_subset="chosen", n_splits=2, cells=[1, 2])
        assert other.features_name == subset.features_name != objective.features_name
        assert other.n_transition_functions == 2
        assert np.asarray(other.cell).tolist() == [1, 2]
        loss = other(subset.transition_function, subset.graph, subset.features, KEY)
        assert -1 <= float(loss) <= 1

    def test_names_of_other_features(self, cells):
        """The name is that of the kernel on the same features, wherever they are and whatever its graph."""
        cells.obsm["x"], cells.obsm["v"] = (cells.layers[key][:, :9] for key in ("Ms", "velocity"))
        cells.obsp["nn"] = cells.obsp.pop("connectivities")
        genes = [f"gene_{i}" for i in range(3, 12)]
        names = set()
        for given in (
            {},
            {"xkey": "x", "vkey": "v", "attr": "obsm"},
            {"xkey": None},
            {"gene_subset": genes},
            {"gene_subset": np.isin(cells.var_names, genes[1:])},
            {"vkey": "velocity2"},
        ):
            with unchanged(cells):
                objective = objectives.HeldOutVelocity(cells, **given)
            kernel = VelocityKernel(cells, conn_key="nn", **given)
            assert objective.features_name == kernel.features_name
            assert list(kernel.features) == [objective.features_name]
            names.add(objective.features_name)
        assert len(names) == 6

    def test_bad_input(self, cells):
        with pytest.raises(TypeError, match="to be an AnnData object, found `ndarray`"):
            objectives.HeldOutVelocity(cells.X)
        with unchanged(cells):
            with pytest.raises(ValueError, match="at least 4 genes to split in halves, found 3"):
                objectives.HeldOutVelocity(cells, gene_subset=["gene_1", "gene_2", "gene_3"])
            with pytest.raises(ValueError, match="`n_splits` to be an integer of at least 1"):
                objectives.HeldOutVelocity(cells, n_splits=0)
            with pytest.raises(KeyError, match=r"adata.layers\['speed'\]"):
                objectives.HeldOutVelocity(cells, vkey="speed")


class TestFunctionsAndSums:
    def test_function(self, cells, kernel, matrix):
        time = jnp.asarray(cells.obs["pseudotime"].to_numpy(), dtype=float)
        objective = objectives.FunctionOf(cells, lambda T: (T @ time - 0.5) ** 2)
        cell, losses = losses_of(objective, kernel)
        assert cell.tolist() == list(range(N_CELLS))
        np.testing.assert_allclose(losses, (matrix @ np.asarray(time) - 0.5) ** 2, **CLOSE)
        with pytest.raises(TypeError, match="a function of the transition matrix, found `float`"):
            objectives.FunctionOf(cells, 0.5)
        with pytest.raises(TypeError, match="AnnData"):
            objectives.FunctionOf(None, lambda T: T)

    def test_sums_and_multiples(self, cells, kernel):
        gain = objectives.TimeGain(cells, "pseudotime")
        late = objectives.TimeGain(cells, "pseudotime", {"clusters": "late"})
        future = objectives.FutureLikelihood(cells, "day", steps=2)
        mask = np.arange(N_CELLS) % 3 > 0
        total = 2 * (future + 0.1 * gain) + late * 3
        assert isinstance(total, fit.LinearCombination)
        for cell_mask in (None, mask):
            expected = 2 * loss_of(future, kernel, cell_mask) + 0.2 * loss_of(gain, kernel, cell_mask)
            expected += 3 * loss_of(late, kernel, cell_mask)
            assert np.isclose(loss_of(total, kernel, cell_mask), expected, **CLOSE)
        with pytest.raises(TypeError):
            gain + 1

    def test_differences_quotients_and_sums_of_lists(self, cells, kernel):
        gain = objectives.TimeGain(cells, "pseudotime")
        late = objectives.TimeGain(cells, "pseudotime", {"clusters": "late"})
        future = objectives.FutureLikelihood(cells, "day", steps=2)
        losses = [gain, late, future]
        values = [loss_of(loss, kernel) for loss in losses]
        for found, expected in (
            (sum(losses), sum(values)),
            (sum(losses) / 3, sum(values) / 3),
            (gain - late, values[0] - values[1]),
            (-future, -values[2]),
            (future - 2 * (gain - late) / np.float64(4), values[2] - (values[0] - values[1]) / 2),
            (jnp.asarray(2.0) * gain, 2 * values[0]),
        ):
            assert np.isclose(loss_of(found, kernel), expected, **CLOSE)
        assert sum([gain]) is gain

    @pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), np.zeros(()), jnp.zeros(())])
    def test_no_division_by_zero(self, cells, zero):
        gain = objectives.TimeGain(cells, "pseudotime")
        for loss in (gain, 2 * gain):
            with pytest.raises(ValueError, match=r"number other than 0, found 0.*leave the loss out"):
                loss / zero

    def test_a_traced_divisor(self, cells):
        gain = objectives.TimeGain(cells, "pseudotime")
        assert float(jax.grad(lambda divisor: (gain / divisor).coefficients[0])(2.0)) == -0.25

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda a, b: a * b,
            lambda a, b: a / b,
            lambda a, b: 1 / a,
            lambda a, b: a - 1,
            lambda a, b: 1 + a,
            lambda a, b: 1 - a,
            lambda a, b: a * "2",
            lambda a, b: a * np.ones(2),
        ],
    )
    def test_what_is_no_loss(self, cells, wrong):
        """A product of losses is none, nor is a loss and a number added."""
        gain = objectives.TimeGain(cells, "pseudotime")
        with pytest.raises(TypeError, match=r"operand|multiply"):
            wrong(gain, gain)
