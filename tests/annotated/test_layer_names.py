"""The names of the layers; anndata 0.13 lists ``X`` among them, under the key None."""

import numpy as np
import pytest
from anndata import AnnData

from jaxvelo.annotated.arrays import read_array
from jaxvelo.annotated.entries import layer_names


@pytest.mark.parametrize("layers", [[], ["spliced"], ["unspliced", "spliced", "Ms"]])
@pytest.mark.parametrize("x", [np.ones((3, 2)), None])
def test_are_those_that_the_user_gave(layers, x):
    adata = AnnData(x, shape=None if x is not None else (3, 2), layers={name: np.ones((3, 2)) for name in layers})
    assert layer_names(adata) == layers


def test_are_what_an_error_shows():
    adata = AnnData(np.ones((3, 2)), layers={"spliced": np.ones((3, 2))})
    with pytest.raises(KeyError, match=r"found the keys \['spliced'\]\. Compute"):
        read_array(adata, "absent", "layers")
