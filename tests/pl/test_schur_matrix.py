import numpy as np
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def test_numbers_without_the_zeros_below_the_diagonal(unchanged_fates):
    ax = pl.schur_matrix(unchanged_fates, show=False)
    found = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in ax.texts}
    matrix = unchanged_fates.uns["schur_matrix_fwd"]
    assert found == {place: f"{v:.2f}" for place, v in np.ndenumerate(matrix) if place not in [(1, 0), (2, 0)]}
    shown = ax.images[0].get_array()
    assert shown.mask.sum() == 2
    np.testing.assert_array_equal(shown[~shown.mask], matrix[~shown.mask])


def test_errors(fates):
    with pytest.raises(KeyError, match=r"schur_matrix_bwd.*compute_schur"):
        pl.schur_matrix(fates, backward=True)
    fates.uns["schur_matrix_fwd"] = np.ones((2, 3))
    with pytest.raises(ValueError, match="square matrix"):
        pl.schur_matrix(fates)
