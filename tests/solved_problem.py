"""What moscot gives when it has solved a problem of time points, as far as kernels ask for it."""

import types
from typing import Any

import anndata
import numpy as np


class Solution:
    """A coupling of two time points."""

    def __init__(self, matrix: Any):
        self.transport_matrix = matrix

    def sparsify(self, mode: str, value: float) -> "Solution":
        """Leave out small numbers."""
        assert mode == "threshold"
        return Solution(np.where(self.transport_matrix > value, self.transport_matrix, 0))


class SolvedProblem:
    """A problem with a solution for each pair of time points."""

    def __init__(self, adata: anndata.AnnData, temporal_key: str, couplings: dict[tuple[Any, Any], Any]):
        self.adata, self.temporal_key = adata, temporal_key
        self.solutions = {pair: Solution(coupling) for pair, coupling in couplings.items()}

    def __getitem__(self, pair: tuple[Any, Any]) -> types.SimpleNamespace:
        days = self.adata.obs[self.temporal_key]
        source, target = (self.adata[days == day] for day in pair)
        return types.SimpleNamespace(adata_src=source, adata_tgt=target)
