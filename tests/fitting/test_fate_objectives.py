"""Objectives of known fates from the keys of an AnnData object, against plain loops; and bad input."""

from typing import ClassVar

import jax
import numpy as np
import pandas as pd
import pytest

from jaxvelo import objectives, tl
from jaxvelo.kernels import VelocityKernel
from tests.bent_line import N_CELLS
from tests.fitting.losses import CLOSE, loss_of, losses_of
from tests.snapshot import unchanged


class TestFateLikelihood:
    ENDS: ClassVar = {"left": np.arange(4), "right": np.arange(56, 60)}

    @staticmethod
    def loops(matrix, ends, known):
        """Losses by value iteration: the probability to be caught in each class."""
        classes = list(ends)
        caught = np.zeros((N_CELLS, len(classes)))
        for k, name in enumerate(classes):
            caught[ends[name], k] = 1
        terminal = caught.any(axis=1)
        inner = np.eye((~terminal).sum()) - matrix[np.ix_(~terminal, ~terminal)]
        caught[~terminal] = np.linalg.solve(inner, matrix[np.ix_(~terminal, terminal)] @ caught[terminal])
        return {i: -np.log(caught[i, classes.index(fate)]) for i, fate in known.items() if not terminal[i]}

    def check(self, objective, kernel, expected):
        cell, losses = losses_of(objective, kernel)
        assert cell.tolist() == sorted(expected)
        np.testing.assert_allclose(losses, [expected[i] for i in cell], rtol=CLOSE["rtol"] * 10, atol=1e-6)

    def test_dictionaries(self, cells, kernel, matrix):
        fates = {"right": {"clusters": "late"}, "left": ["cell_10", "cell_12", "cell_2"]}
        with unchanged(cells):
            objective = objectives.FateLikelihood(cells, fates, self.ENDS, blind=0)
        late = np.flatnonzero(cells.obs["clusters"] == "late")
        known = {10: "left", 12: "left", 2: "left", **dict.fromkeys(late.tolist(), "right")}
        self.check(objective, kernel, self.loops(matrix, self.ENDS, known))

    def test_masks_and_ranges(self, cells, kernel, matrix):
        """Masks, and limits of a number, choose the same cells as indices do."""
        masks = {name: np.isin(np.arange(N_CELLS), ends) for name, ends in self.ENDS.items()}
        fates = {"left": {"pseudotime": [0.1, 0.2]}, "right": np.arange(N_CELLS) == -5 % N_CELLS}
        with unchanged(cells):
            objective = objectives.FateLikelihood(cells, fates, masks, blind=0)
        early = np.flatnonzero(cells.obs["pseudotime"].between(0.1, 0.2))
        assert len(early) > 3
        self.check(
            objective, kernel, self.loops(matrix, self.ENDS, {**dict.fromkeys(early.tolist(), "left"), 55: "right"})
        )

    def test_keys(self, cells, kernel, matrix):
        ends = pd.Series([None] * N_CELLS, dtype=object)
        ends[:4], ends[56:] = "left", "right"
        # The categories come in another order and with one that no cell has.
        cells.obs["ends"] = pd.Categorical(ends, ["right", "nowhere", "left"])
        fate = pd.Series([None] * N_CELLS, dtype=object)
        fate[1:20:3], fate[40:60:4] = "left", "right"
        cells.obs["fate"] = fate.to_numpy()
        with unchanged(cells):
            objective = objectives.FateLikelihood(cells, "fate", "ends", blind=0)
        known = {**dict.fromkeys(range(1, 20, 3), "left"), **dict.fromkeys(range(40, 60, 4), "right")}
        self.check(objective, kernel, self.loops(matrix, self.ENDS, known))
        assert objective.n_fates == 2

    BAD: ClassVar = {
        "unknown fate": ({"fates": {"up": [7]}}, ValueError, r"none for \['up'\]. `terminal` has \['left'"),
        "one end": ({"terminal": {"left": [0]}}, ValueError, r"at least two fates in `terminal`, found \['left'\]"),
        "two fates": ({"fates": {"left": [7, 8], "right": [8]}}, ValueError, "1 in 'right' and another.*'cell_8'"),
        "two ends": ({"terminal": {"left": [1], "right": [1]}}, ValueError, "one class of `terminal`"),
        "none known": ({"fates": {"left": [0, 1]}}, ValueError, "known fate that are not terminal themselves"),
        "missing key": ({"fates": "fate"}, KeyError, r"adata.obs\['fate'\]"),
        "numbers": ({"terminal": "pseudotime"}, TypeError, "to be categorical"),
        "a list": ({"fates": [1, 2]}, TypeError, "`fates` to be a key in `adata.obs` or a dictionary.*`list`"),
        "unknown cells": ({"fates": {"left": ["cell_x"]}}, KeyError, r"fates\['left'\].*'cell_x'"),
        "no cells": ({"fates": {"left": []}}, ValueError, r"fates\['left'\]"),
    }  # fmt: skip

    @pytest.mark.parametrize("name", BAD)
    def test_bad_input(self, cells, name):
        arguments, error, message = self.BAD[name]
        with unchanged(cells), pytest.raises(error, match=message):
            objectives.FateLikelihood(cells, **{"fates": {"left": [7]}, "terminal": self.ENDS, **arguments})


class TestFateProportions:
    ENDS: ClassVar = TestFateLikelihood.ENDS

    @staticmethod
    def of(objective, number):
        """Cells, shares and weight of one set."""
        member = np.asarray(objective.member)[np.asarray(objective.member_of) == number]
        return member.tolist(), np.asarray(objective.shares)[number].tolist(), float(objective.weight[number])

    def test_one_set(self, cells, kernel):
        with unchanged(cells):
            objective = objectives.FateProportions(cells, {"right": 5, "left": 15}, {"clusters": "middle"}, self.ENDS)
        middle = np.flatnonzero(cells.obs["clusters"] == "middle").tolist()
        assert self.of(objective, 0) == (middle, [0.75, 0.25], 20)
        # The mean of the losses of known fates has the mean of the logarithms where this has that of the mean.
        few = objectives.FateProportions(cells, {"right": 5, "left": 15}, [4, 5, 6], self.ENDS)
        _, (loss,) = losses_of(few, kernel)
        known = objectives.FateLikelihood(cells, {"left": [4, 5, 6]}, self.ENDS, blind=0)
        fates = np.exp(-losses_of(known, kernel)[1]).mean()
        assert np.isclose(loss, -0.75 * np.log(fates) - 0.25 * np.log(1 - fates), rtol=1e-4)

    def test_several_sets(self, cells):
        counts = pd.DataFrame({"right": [1, 2.5], "left": [3, 2.5]}, index=["late", "early"])
        by_key = objectives.FateProportions(cells, counts, "clusters", self.ENDS)
        late = np.flatnonzero(cells.obs["clusters"] == "late").tolist()
        assert self.of(by_key, 0) == (late, [0.75, 0.25], 4)
        chosen = {"early": {"clusters": "early"}, "late": late, "other": [3]}
        as_dictionaries = {name: dict(row) for name, row in counts.iterrows()}
        same = objectives.FateProportions(cells, as_dictionaries, chosen, self.ENDS)
        jax.tree.map(np.testing.assert_array_equal, by_key, same)

    def test_how_certain_they_are(self, cells):
        errors = dict.fromkeys(("left", "right"), 0.05)
        shares = objectives.FateProportions(cells, {"left": 0.8, "right": 0.2}, [9, 30], self.ENDS, errors)
        assert np.isclose(float(shares.weight[0]), 0.16 / 0.05**2)
        clustered = objectives.FateProportions(cells, {"left": 8, "right": 2}, [9, 30], self.ENDS, overdispersion=0.5)
        assert np.isclose(float(clustered.weight[0]), 10 / 5.5)

    def test_added_to_known_fates_in_a_fit(self, cells):
        """A set is fitted on as a whole, or held out."""
        shares = objectives.FateProportions(cells, {"left": 5, "right": 15}, np.arange(20, 40), self.ENDS)
        known = objectives.FateLikelihood(cells, {"left": np.arange(5, 15), "right": np.arange(45, 55)}, self.ENDS)
        kernel = VelocityKernel(cells).compute_transition_matrix()
        result = tl.fit_kernel(kernel, known + shares, steps=3, progress=False, prior=np.inf)
        assert result.training[20:40].all() or result.validation[20:40].all()
        before, after = (loss_of(known + shares, k, result.training) for k in (kernel, result.kernel))
        assert np.isclose(before, result.scores["training_convention"], **CLOSE)
        assert np.isclose(after, result.scores["training"], rtol=1e-3)
        held_out = loss_of(known + shares, result.kernel, result.validation)
        assert np.isclose(result.scores["validation"], held_out, rtol=1e-3)

    BAD: ClassVar = {
        "another fate": ({"counts": {"up": 1, "left": 2}}, ValueError, r"\['left', 'right'\] .* found \['up'"),
        "a fate left out": ({"counts": {"left": 2}}, ValueError, "Give 0 for a fate that was not seen"),
        "none": ({"counts": {"left": 0, "right": 0}}, ValueError, "positive sum of `counts`"),
        "negative": ({"counts": {"left": -1, "right": 2}}, ValueError, r"not negative in `counts`, found \[-1.0\]"),
        "missing": ({"counts": {"left": np.nan, "right": 2}}, ValueError, r"finite numbers.*found \[nan\]"),
        "texts": ({"counts": {"left": "few", "right": 2}}, TypeError, "numbers in `counts`, found .*'few'"),
        "a list": ({"counts": [1, 2]}, TypeError, "`counts` to be a dictionary .*, found `list`"),
        "terminal cells": ({"cells": [0, 1]}, ValueError, "that are not terminal themselves .*leave this set out"),
        "no cells": ({"cells": {"clusters": "Beta"}}, ValueError, r"found \['Beta'\]"),
        "a set without cells": (
            {"counts": {"a": {"left": 1, "right": 1}}, "cells": {"b": [7]}}, ValueError, r"none for \['a'\]. .* \['b'\]"
        ),
        "sets in a list": ({"counts": {"a": {"left": 1, "right": 1}}, "cells": [7]}, TypeError, "of several sets"),
        "certain": ({"standard_errors": {"left": 0, "right": 0}}, ValueError, "positive `standard_errors`"),
        "no shares": (
            {"counts": {"left": 4, "right": 4}, "standard_errors": {"left": 1, "right": 1}}, ValueError, "sum to 1"
        ),
        "overdispersion": ({"overdispersion": 1}, ValueError, "`overdispersion` to be a number from 0 to below 1"),
    }  # fmt: skip

    @pytest.mark.parametrize("name", BAD)
    def test_bad_input(self, cells, name):
        arguments, error, message = self.BAD[name]
        arguments = {"counts": {"left": 0.5, "right": 0.5}, "cells": [9], "terminal": self.ENDS, **arguments}
        with unchanged(cells), pytest.raises(error, match=message):
            objectives.FateProportions(cells, **arguments)


@pytest.mark.parametrize("blind", [1, -0.1, "some", True, np.nan])
def test_shares_of_blind_labels_that_are_none(cells, blind):
    for build in (
        lambda: objectives.FateLikelihood(cells, {"left": [7]}, TestFateLikelihood.ENDS, blind=blind),
        lambda: objectives.FutureLikelihood(cells, "day", blind=blind),
    ):
        with pytest.raises(ValueError, match="`blind`, the share of blind labels, to be 'fit' or a number"):
            build()


def test_wrong_labels_are_found_and_do_not_count(cells, kernel):
    """The share is found, and losses are those of that share."""
    ends = TestFateLikelihood.ENDS
    known = {"right": np.arange(20, 45), "left": np.arange(45, 50)}
    objective = objectives.FateLikelihood(cells, known, ends)
    assert objective.blind is None
    share = float(objective.blind_share((kernel.transitions,)))
    # All steps lead to the right: of six labels one is wrong, and as many are right by chance.
    np.testing.assert_allclose(share, 1 / 3, rtol=1e-3)
    given = objectives.FateLikelihood(cells, known, ends, blind=share)
    np.testing.assert_allclose(losses_of(objective, kernel)[1], losses_of(given, kernel)[1], rtol=1e-5)
    future = objectives.FutureLikelihood(cells, "day", steps=3, blind="fit")
    assert loss_of(future, kernel) <= loss_of(objectives.FutureLikelihood(cells, "day", steps=3), kernel)
