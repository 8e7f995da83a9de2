"""Kernels in files and in AnnData objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import numpy as np
from anndata import AnnData

from jaxvelo.annotated.plain_values import without_none
from jaxvelo.annotated.transition_keys import DIRECTIONS, default_key
from jaxvelo.configuration import logger
from jaxvelo.kernels._description import Described, build, class_that_accepts_any_matrix, class_that_reads
from jaxvelo.kernels._files import read_file, write_file
from jaxvelo.kernels._kernel_entry import Entry, write_entry

AnyKernel = TypeVar("AnyKernel", bound=Described)


class Storage(Described):
    """A kernel that writes itself to files and to its AnnData object."""

    def write_to_adata(self, key: str | None = None, copy: bool = False) -> None:
        """Write transition matrix and parameters to :attr:`adata`, where CellRank finds them too.

        A combination also writes the matrices of its kernels, to ``adata.obsp[f"{key}_kernel{i}"]``.

        Parameters
        ----------
        key
            Key in ``adata.obsp``, and with ``"_params"`` in ``adata.uns``; ``"T_fwd"`` or ``"T_bwd"`` if ``None``.
        copy
            Without effect: what is written is always a copy, which may be changed; the kernel does not change with it.

        Raises
        ------
        RuntimeError
            If the transition matrix was not computed.

        Examples
        --------
        >>> kernel.write_to_adata()
        >>> print(jv.kernels.from_adata(adata, "T_fwd"))
        (0.8 * VelocityKernel[n=150] + 0.2 * ConnectivityKernel[n=150])
        """
        matrix, description = self.require_transitions(), self.describe()
        key = default_key(self.backward) if key is None else key
        parts = {} if "number" in description else dict(enumerate(k.require_transitions() for k in self.kernels))
        init = without_none(self.arguments_to_store(key))
        write_entry(self.adata, key, matrix, parts, without_none(self.params), init, description)

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
        >>> kernel.write("kernel.npz")
        >>> print(jv.kernels.read("kernel.npz"))
        (0.8 * VelocityKernel[n=150] + 0.2 * ConnectivityKernel[n=150])
        """
        path = Path(fname)
        logger.info("Writing `%s` to `%s`", self, path)
        write_kernel(self, path, write_adata)


def write_kernel(kernel: Described, path: Path, write_adata: bool) -> None:
    """Write a kernel to one file, which :func:`kernel_of_file` reads."""
    description = kernel.describe()
    matrices = {f"kernel{i}": part.transition_matrix for i, part in enumerate(kernel.kernels)}
    if "number" not in description and all(matrix is not None for matrix in matrices.values()):
        matrices["combination"] = kernel.transition_matrix
    write_file(path, description, matrices, kernel.adata, write_adata)


def kernel_of_file(fname: str | os.PathLike, adata: AnnData | None, copy: bool) -> Described:
    """Read a file that :meth:`Storage.write` wrote."""
    description, adata, matrices = read_file(Path(fname), adata, copy)
    return build(description, adata, lambda i: matrices.get(f"kernel{i}"), matrices.get("combination"))


def kernel_of_entry(adata: AnnData, key: str) -> Described:
    """Read whatever kernel :meth:`Storage.write_to_adata` or CellRank wrote."""
    entry = Entry(adata, key)
    if not entry.is_whole:
        return _restored(class_that_accepts_any_matrix(), entry)
    description = entry.description
    if description is None:
        return _restored(class_that_reads(entry.init), entry)
    if "number" in description:
        return build(description, adata, lambda _: entry.matrix, None)
    return build(description, adata, entry.part, entry.matrix)


def kernel_of_class(cls: type[AnyKernel], adata: AnnData, key: str) -> AnyKernel:
    """Read a basic kernel of a known class.

    Raises
    ------
    TypeError
        If it is of another.
    ValueError
        If the stored matrix is another than the one that was written.
    """
    return _restored(cls, Entry(adata, key))


def _restored(cls: type[AnyKernel], entry: Entry) -> AnyKernel:
    key, init, params = entry.key, entry.init, entry.params
    if cls.accepts_any_matrix:
        # How the matrix was made stays in the parameters.
        init = {"obsp_key": key, "backward": init.get("backward", DIRECTIONS.get(key))}
        params = {"origin": f"adata.obsp[{key!r}]", **params}
    elif not entry.is_whole:
        raise ValueError(
            f"Expected rows of `adata.obsp[{key!r}]` that sum to one, as they were written, found others: perhaps "
            "cells have been chosen since. Compute the kernel anew, or take the matrix with its rows normalised, by "
            f"`PrecomputedKernel(adata, obsp_key={key!r})`."
        )
    else:
        _check_class(cls, entry)
    description = {"type": cls.__name__, "number": 0, "init": init, "params": params}
    kernel = build(description, entry.adata, lambda _: entry.matrix, None)
    assert isinstance(kernel, cls)
    return kernel


def _check_class(cls: type[Described], entry: Entry) -> None:
    """Raise an error unless an entry is that of a kernel of a class."""
    description = entry.description
    kind = class_that_reads(entry.init).__name__ if description is None else str(description["type"])
    if kind != cls.__name__:
        raise TypeError(
            f"Expected a `{cls.__name__}` in `adata.obsp[{entry.key!r}]`, found a `{kind}`. "
            "Read it as `jaxvelo.kernels.from_adata(adata, key)`."
        )
    of_cells = [name for name in cls.parameters_of_cells if np.ndim(entry.params.get(name, 0)) == 1]
    if of_cells and entry.is_outdated:
        raise ValueError(
            f"Expected the matrix that was written to `adata.obsp[{entry.key!r}]`, found another: perhaps cells are in "
            f"another order since, and {of_cells} of each cell does not follow. Compute it anew, or take the "
            f"matrix by `PrecomputedKernel(adata, obsp_key={entry.key!r})`."
        )
