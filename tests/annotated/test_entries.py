"""Entries under a key; anndata 0.13 lists ``X`` among the layers, under the key None."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from jaxvelo.annotated.arrays import read_array
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import read_clusters
from jaxvelo.annotated.entries import layer_names, require_key

pytestmark = pytest.mark.any_precision


def test_column_twice(adata):
    adata.obs = pd.concat([adata.obs, adata.obs[["clusters", "time"]]], axis=1)
    message = r"one column `adata.obs\['clusters'\]`, found 2 of that name.*duplicated\(\)"
    with pytest.raises(ValueError, match=message):
        require_key(adata.obs, "clusters", "adata.obs", "")
    with pytest.raises(ValueError, match=message):
        read_clusters(adata, "clusters")
    with pytest.raises(ValueError, match=message):
        chosen_cells(adata, {"clusters": "a"}, "cells")
    with pytest.raises(ValueError, match=r"`adata.obs\['time'\]`, found 2"):
        chosen_cells(adata, {"time": [0, 1]}, "cells")


@pytest.mark.parametrize("layers", [[], ["spliced"], ["unspliced", "spliced", "Ms"]])
@pytest.mark.parametrize("x", [np.ones((3, 2)), None])
def test_layers_are_those_that_the_user_gave(layers, x):
    adata = AnnData(x, shape=None if x is not None else (3, 2), layers={name: np.ones((3, 2)) for name in layers})
    assert layer_names(adata) == layers


def test_layers_are_what_an_error_shows():
    adata = AnnData(np.ones((3, 2)), layers={"spliced": np.ones((3, 2))})
    with pytest.raises(KeyError, match=r"found the keys \['spliced'\]\. Compute"):
        read_array(adata, "absent", "layers")
