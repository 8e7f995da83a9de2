"""Which macrostates are initial, on chains of a few states."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._initial_choice import choose_initial

pytestmark = pytest.mark.any_precision


def chain(matrix, stationary, initial=None):
    names = ["trunk", "passage", "left", "right"]
    initial = np.full(4, 0.25) if initial is None else initial
    return CoarseChain(
        pd.DataFrame(matrix, index=names, columns=names), pd.Series(stationary, names), pd.Series(initial, names)
    )


# What is passed is left sooner than the trunk.
CLOSED = np.array([[0.97, 0.03, 0, 0], [0, 0.9, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def test_what_is_left_for_good_and_not_entered():
    names, reason = choose_initial(chain(CLOSED, [0, 0, 0.5, 0.5]), 2)
    assert names == ["trunk", "passage"]
    assert reason == (
        "of those that are left for good, the least entered: trunk (0, entered 0 times for each that it is left), "
        "passage (0, entered 0.3 times for each that it is left), left (0.5)"
    )


def test_overlapping_states_have_probabilities_out_of_range():
    matrix = CLOSED + np.array([[0, 0, 0, 0], [-0.001, 0.001, 0, 0], [0, -0.003, 1e-6, 0.003], [0, 0, -1e-6, 1e-6]])
    assert choose_initial(chain(matrix, [0, 0, 0.5, 0.5]), 1)[0] == ["trunk"]


def test_the_rarest_where_all_are_entered_again():
    matrix = np.full((4, 4), 0.05) + 0.8 * np.eye(4)
    names, reason = choose_initial(chain(matrix, [0.3, 0.1, 0.4, 0.2]), 1)
    assert names == ["passage"]
    assert reason == "the rarest in the long run: passage (0.1), right (0.2)"
