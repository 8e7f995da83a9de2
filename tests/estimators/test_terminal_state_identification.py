"""The curve and score of identified terminal states: against CellRank's, and by hand."""

import numpy as np
import pytest

from jaxvelo.estimators._terminal_state_identification import (
    identified_among,
    identify_terminal_states,
    tsi_score,
)

pytestmark = pytest.mark.any_precision


def curve_of(names, n, terminal_states):
    """``names`` may lack a number, for which there are no macrostates then."""

    def macrostates(number):
        if number not in names:
            raise ValueError(f"{number} would split a pair")
        return names[number]

    return identify_terminal_states(macrostates, n, terminal_states, show_progress_bar=False)


def test_by_hand(logged):
    names = {5: ["A", "B_1", "B_2", "X", "C"], 3: ["A", "B", "X"], 2: ["X_1", "X_2"], 1: ["X"]}
    curve = curve_of(names, 5, ["A", "B", "C"])
    assert "no [4] macrostates" in logged()
    np.testing.assert_array_equal(curve["number_of_macrostates"], [5, 4, 3, 2, 1])
    np.testing.assert_array_equal(curve["identified_terminal_states"], [3, 2, 2, 0, 0])
    np.testing.assert_array_equal(curve["optimal_identification"], [3, 3, 3, 2, 1])
    assert list(curve.index) == ["0", "1", "2", "3", "4"]
    assert tsi_score(curve) == 7 / 12
    assert tsi_score(curve, 3) == 2 / 6


def test_equal_to_reference(shared):
    """With the macrostates that CellRank names on the pancreas; it has none of 6 and 8, and takes 7 and 9 instead."""
    many = ["Ductal_1", "Ductal_2", "Ductal_3", "Epsilon", "Ductal_4", "Alpha", "Beta"]
    names = {
        9: [*many, "Ductal_5", "Ngn3 low EP"],
        7: many,
        5: ["Epsilon", "Ductal_1", "Ductal_2", "Alpha", "Beta"],
        4: ["Epsilon", "Alpha", "Ductal", "Beta"],
        3: ["Epsilon", "Beta", "Ductal"],
        2: ["Epsilon", "Beta"],
        1: ["Beta"],
    }
    curve = curve_of(names, 9, ["Alpha", "Beta", "Epsilon", "Delta"])
    with np.load(shared / "reference/pancreas_estimators.npz") as stored:
        assert all(set(stored[f"macro{n}/names"]) == set(names[n]) for n in (4, 5, 7, 9))
        np.testing.assert_allclose(tsi_score(curve), stored["tsi/score"], rtol=1e-12)


def test_from_the_largest_number_down():
    seen = []
    identify_terminal_states(lambda n: seen.append(n) or ["A"], 4, ["A"], show_progress_bar=False)
    assert seen == [4, 3, 2, 1]


def test_none_of_the_smallest_numbers():
    curve = curve_of({3: ["A", "B", "C"]}, 3, ["A"])
    np.testing.assert_array_equal(curve["identified_terminal_states"], [1, 0, 0])


def test_none_at_all():
    with pytest.raises(ValueError, match=r"up to 3, found none\. 3 would split a pair"):
        curve_of({}, 3, ["A"])


def test_names_with_underscores():
    """A number at the end is the macrostate's, anything else belongs to the cluster's name."""
    assert identified_among(["Fev_high_1", "Fev_high_2", "Fev_low"], ["Fev_high", "Fev_low", "Fev"]) == {
        "Fev_high",
        "Fev_low",
    }
    assert identified_among(["cluster_3"], ["cluster_3", "cluster_4"]) == {"cluster_3"}
