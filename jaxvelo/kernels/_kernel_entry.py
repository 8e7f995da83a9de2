"""Kernels in AnnData objects, as matrices and dictionaries under the keys that CellRank uses."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.entries import require_anndata, require_key, stored_parameters
from jaxvelo.annotated.plain_values import plain
from jaxvelo.kernels._stochastic_matrix import stochastic, sums_to_one


def write_entry(
    adata: AnnData,
    key: str,
    matrix: sp.csr_matrix,
    parts: Mapping[int, sp.csr_matrix],
    params: dict[str, Any],
    init: dict[str, Any],
    description: dict[str, Any],
) -> None:
    """Write a kernel to an AnnData object.

    Parameters
    ----------
    adata
        Annotated data.
    key
        The matrix goes to ``adata.obsp[key]``, those of basic kernels to ``adata.obsp[f"{key}_kernel{i}"]``, all else
        to ``adata.uns[f"{key}_params"]``, beside what other tools have there.
    matrix, parts
        Transition matrix of the kernel; of a combination, also those of its basic kernels by their numbers.
    params, init
        Parameters and arguments, where CellRank finds them.
    description
        The kernel as a dictionary, from which it is built anew.
    """
    known = stored_parameters(adata, f"{key}_params")
    # CellRank, writing to the same key, would leave our description in place: the checksum tells whose matrix it is.
    entry = {"params": params, "init": init, "kernel": {**description, "checksum": checksum(matrix.data)}}
    for name, values in {key: matrix, **{_part_key(key, i): part for i, part in parts.items()}}.items():
        adata.obsp[name] = values.copy()  # the kernel's own is read-only
    adata.uns[f"{key}_params"] = {**known, **entry}


class Entry:
    """A kernel that was written to an AnnData object, here or in CellRank.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Key that it was written with.

    Raises
    ------
    KeyError
        If there is no such entry.
    """

    def __init__(self, adata: AnnData, key: str):
        require_anndata(adata)
        require_key(adata.obsp, key, "adata.obsp", "Pass the key that the kernel was written with.")
        remedy = f"Read a matrix without parameters as `PrecomputedKernel(adata, obsp_key={key!r})`."
        self.adata = adata
        self.key = key
        self._stored = plain(dict(require_key(adata.uns, f"{key}_params", "adata.uns", remedy)))

    @property
    def init(self) -> dict[str, Any]:
        """Arguments that the kernel was made with."""
        return self._stored.get("init", {})

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters."""
        return self._stored.get("params", {})

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the matrix sum to one, as they do when it is written."""
        sums = np.asarray(sp.csr_matrix(self.adata.obsp[self.key]).sum(axis=1)).ravel()
        return bool(sums_to_one(sums).all())

    @functools.cached_property
    def matrix(self) -> sp.csr_matrix:
        """A copy of the transition matrix, its rows normalised if they must be."""
        return self._matrix(self.key)

    def part(self, number: int) -> sp.csr_matrix:
        """A copy of the transition matrix of a basic kernel of a combination."""
        return self._matrix(_part_key(self.key, number))

    @property
    def description(self) -> dict[str, Any] | None:
        """Description of the kernel; ``None`` if there is none of this matrix."""
        found = self._stored.get("kernel")
        return found if found is not None and found.get("checksum") == checksum(self.matrix.data) else None

    @property
    def is_outdated(self) -> bool:
        """Whether there is a description, of another matrix."""
        return "kernel" in self._stored and self.description is None

    def _matrix(self, key: str) -> sp.csr_matrix:
        remedy = "Part of the kernel is missing; write it anew."
        matrix = require_key(self.adata.obsp, key, "adata.obsp", remedy)
        return stochastic(matrix, self.adata.n_obs, f"adata.obsp[{key!r}]", copy=True)


def _part_key(key: str, number: int) -> str:
    return f"{key}_kernel{number}"
