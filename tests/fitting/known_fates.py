"""Cells on a bent line, of which fates are known."""

import numpy as np
import pandas as pd

from tests.bent_line import N_CELLS, make_cells


def make_known():
    """Cells on a line with two ends; which of them the cells in between go to is known, but for every fifth."""
    adata = make_cells()
    number = np.arange(N_CELLS)
    ends = np.where(number < 4, "begin", np.where(number >= N_CELLS - 4, "end", None))
    fate = np.where(number < 20, "begin", "end").astype(object)
    fate[number % 5 == 0] = None
    adata.obs["terminal"] = pd.Categorical(ends, ["begin", "end"])
    adata.obs["fate"] = pd.Categorical(fate, ["begin", "end"])
    return adata
