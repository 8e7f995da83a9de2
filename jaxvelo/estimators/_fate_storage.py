"""Estimators in files and in AnnData objects."""

from __future__ import annotations

import copy as copying
import os
from pathlib import Path
from typing import Any, Self

from anndata import AnnData

from jaxvelo import kernels
from jaxvelo.annotated.transition_keys import default_key
from jaxvelo.configuration import logger
from jaxvelo.estimators._estimator import Estimator
from jaxvelo.estimators._fate_adata import adata_of_results, keep_attributes
from jaxvelo.estimators._fate_entries import RESULTS, read_results, write_results
from jaxvelo.estimators._fate_files import read_file, write_file
from jaxvelo.estimators._stale_results import warn_of_stale_results
from jaxvelo.kernels import PrecomputedKernel


class FateStorage(Estimator):
    """An estimator that is written and read, here and in CellRank."""

    def to_adata(self, keep: Any = ("X", "raw"), *, copy: Any = True) -> AnnData:
        """Make an AnnData object with the kernel and all results, for CellRank too.

        Parameters
        ----------
        keep
            What else to take over from :attr:`adata`: names of attributes, ``"all"``, or a dictionary from names to
            keys.
        copy
            Whether to copy it, or the names of what to copy.

        Returns
        -------
        The AnnData object.

        Raises
        ------
        KeyError, ValueError
            If something is not there.

        Examples
        --------
        >>> stored = g.to_adata()
        >>> "lineages_fwd" in stored.obsm
        True
        """
        made = adata_of_results(self.adata, self._keys, self._results)
        kernel = self._kernel.copy()
        kernel.adata = made
        kernel.write_to_adata()
        keep_attributes(made, self.adata, keep, copy)
        return made

    @classmethod
    def from_adata(cls, adata: AnnData, obsp_key: str | None = None) -> Self:
        """Read an estimator, with its kernel, from an AnnData object that was written here or in CellRank.

        Parameters
        ----------
        adata
            Annotated data.
        obsp_key
            Key of the transition matrix in ``adata.obsp``; ``"T_fwd"`` or ``"T_bwd"`` if :obj:`None`.

        Returns
        -------
        The estimator, with all results that stand there.

        Raises
        ------
        KeyError
            If there is no such matrix.
        ValueError
            If results do not fit together.

        Warns
        -----
        If results are not those of the transition matrix.

        Examples
        --------
        >>> jv.estimators.GPCCA.from_adata(g.to_adata(keep="all")).fate_probabilities.shape
        (150, 2)
        """
        if obsp_key is None:
            obsp_key = next((key for key in map(default_key, (False, True)) if key in adata.obsp), default_key(False))
        is_described = f"{obsp_key}_params" in adata.uns
        estimator = cls(
            kernels.from_adata(adata, obsp_key) if is_described else PrecomputedKernel(adata, obsp_key=obsp_key)
        )
        estimator._results = read_results(adata, estimator._keys)
        warn_of_stale_results(estimator.transition_matrix, estimator._keys, estimator._results)
        return estimator

    def write(self, fname: str | os.PathLike, write_adata: bool = True) -> None:
        """Write to one ``.npz`` file without pickled objects.

        Parameters
        ----------
        fname
            The file, replaced if it is there.
        write_adata
            Whether to include :attr:`adata`.

        Examples
        --------
        >>> g.write("fates.npz")
        >>> jv.estimators.GPCCA.read("fates.npz").fate_probabilities.shape
        (150, 2)
        """
        path = Path(fname)
        logger.info("Writing `%s` to `%s`", self, path)
        write_file(path, self._kernel, adata_of_results(self.adata, self._keys, self._results), write_adata)

    @classmethod
    def read(cls, fname: str | os.PathLike, adata: AnnData | None = None, copy: bool = False) -> Self:
        """Read what :meth:`write` wrote.

        Parameters
        ----------
        fname
            The file.
        adata
            AnnData object, for a file without one; it gets the results.
        copy
            Whether to copy ``adata``; a view always is.

        Returns
        -------
        The estimator, with its kernel and all results.

        Raises
        ------
        TypeError
            If there is no AnnData object in the file nor given.
        ValueError
            If ``adata`` has other cells, or in another order, or the file is none of ours.

        Examples
        --------
        >>> g.write("fates.npz", write_adata=False)
        >>> jv.estimators.GPCCA.read("fates.npz", adata).fate_probabilities.shape
        (150, 2)
        """
        kernel, stored = read_file(Path(fname), adata, copy)
        estimator = cls(kernel)
        estimator._results = read_results(stored, estimator._keys)
        write_results(estimator.adata, estimator._keys, estimator._results, RESULTS)
        return estimator

    def copy(self, *, deep: bool = False) -> Self:
        """Copy the estimator, with its AnnData object only if ``deep``.

        Parameters
        ----------
        deep
            Whether to copy the AnnData object too.

        Returns
        -------
        An estimator with the same kernel and results. What one computes the other does not see, but in an AnnData
        object that they share.

        Examples
        --------
        >>> other = g.copy().set_terminal_states(["Fate A"])
        >>> len(other.terminal_states.cat.categories), len(g.terminal_states.cat.categories)
        (1, 2)
        """
        other = copying.copy(self)
        other._kernel = self._kernel.copy(deep=deep)
        return other
