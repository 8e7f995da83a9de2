"""Values of the cells with names of their own, in the order of the cells."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from jaxvelo.annotated.order import aligned, square_in_order
from tests.annotated.six_cells import N

pytestmark = pytest.mark.any_precision


def test_tables_of_cells_and_cells(adata):
    names = adata.obs_names
    values = np.arange(N * N, dtype=float).reshape(N, N)
    named = pd.DataFrame(values, names, names)
    shuffled = named.sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=1)
    for form in (
        values,
        values.tolist(),
        jnp.array(values),
        named,
        shuffled,
        shuffled.astype("Int64"),
        pd.DataFrame(values),
    ):
        np.testing.assert_array_equal(square_in_order(form, names, "T"), values)
    sparse = sp.coo_array(values)
    assert square_in_order(sparse, names, "T") is sparse
    for form, error, message in (
        (named.iloc[1:], ValueError, r"`T` of shape \(6, 6\), cells by cells, found \(5, 6\)"),
        (named.rename(index={"cell_1": "cell_2"}), KeyError, r"\['cell_1'\] not in `T.index`"),
        (named.rename(columns={"cell_1": "x"}), KeyError, r"\['cell_1'\] not in `T.columns`"),
        (named.astype(str), TypeError, "matrix of numbers as `T`, found the type"),
        ("T_fwd", ValueError, r"`T` of shape \(6, 6\)"),
    ):
        with pytest.raises(error, match=message):
            square_in_order(form, names, "T")


def test_aligned(adata):
    names = adata.obs_names
    values = pd.Series(np.arange(N), index=names)
    np.testing.assert_array_equal(aligned(values, names, "w"), np.arange(N))
    np.testing.assert_array_equal(aligned(values.sample(frac=1, random_state=0), names, "w"), np.arange(N))
    np.testing.assert_array_equal(aligned(values.reset_index(drop=True), names, "w"), np.arange(N))
    np.testing.assert_array_equal(aligned(values[::-1], names[2:4], "w"), [2, 3])  # some cells chosen since
    twins = pd.Series(range(N), index=[*names[1:], names[1]])
    for other in (values.iloc[:-1], values.rename("a{}".format), pd.Series(range(N), index=range(1, N + 1)), twins):
        with pytest.raises(ValueError, match=r"index of `w` to be the 6 names \['cell_0', 'cell_1'\]"):
            aligned(other, names, "w")
