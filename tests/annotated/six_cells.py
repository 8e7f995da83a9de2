"""Six cells, six genes, and which of them are meant, in all forms of masks."""

import anndata
import numpy as np
import pandas as pd

MASK = [True, False, True, False, False, True]
N = len(MASK)
NUMBERS = [int(truth) for truth in MASK]
WORDS = [str(truth) for truth in MASK]


def six_cells():
    """Columns of all types."""
    return anndata.AnnData(
        np.zeros((N, N), dtype=np.float32),
        obs=pd.DataFrame(
            {
                "clusters": pd.Categorical(["a", "a", "b", "b", None, "c"], categories=["a", "b", "c", "empty"]),
                "leiden": pd.Categorical(["0", "0", "1", "2", "2", "10"]),
                "label": ["x", "x", "y", "y", "z", "z"],
                "number": [0, 0, 1, 2, 2, 10],
                "gaps": pd.array([0, 0, 1, None, 2, 10], dtype="Int64"),
                "whole": [0.0, 0.0, 1.0, np.nan, 2.0, 10.0],
                "time": [0.0, 0.1, 0.2, np.nan, 0.4, 0.5],
                "flag": MASK,
                "flags": pd.array([*MASK[:5], None], dtype="boolean"),
                "bit": NUMBERS,
            },
            index=[f"cell_{i}" for i in range(N)],
        ),
        var=pd.DataFrame({"chosen": MASK, "bit": NUMBERS}, index=[f"gene_{i}" for i in range(N)]),
    )
