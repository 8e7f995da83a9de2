"""Kernels as nested dictionaries of plain values, and back: each class describes itself, and is found by its name."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.kernels._chain import CellChain

_classes: dict[tuple[str, str], type[Described]] = {}
"""All classes of kernels by module and name, in the order in which they were defined: our own first."""


class Described(CellChain):
    """A kernel that can be written and read. Defining a subclass is all it takes to have its kernels read back.

    Attributes
    ----------
    accepts_any_matrix
        Whether a kernel of this class can be made of any transition matrix, whatever computed it.
    parameters_of_cells
        Parameters that may have one value for each cell.
    """

    accepts_any_matrix: ClassVar[bool] = False
    parameters_of_cells: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _classes[cls.__module__, cls.__qualname__] = cls

    @property
    @abc.abstractmethod
    def params(self) -> dict[str, Any]:
        """Parameters that the transition matrix was computed with."""

    @abc.abstractmethod
    def describe(self, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """Describe the kernel by strings, numbers and arrays.

        Parameters
        ----------
        numbers
            Numbers of the :attr:`kernels` in a larger combination; their places in the tuple if ``None``.

        Returns
        -------
        A dictionary with the name of the class as ``"type"``. A basic kernel has a ``"number"``.

        Examples
        --------
        >>> sorted(ck.describe())
        ['init', 'number', 'params', 'type']
        """

    @classmethod
    @abc.abstractmethod
    def from_description(
        cls,
        description: dict[str, Any],
        adata: AnnData,
        part: Callable[[dict[str, Any]], Any],
        matrix_of: Callable[[int], sp.csr_matrix | None],
    ) -> Described:
        """Make the kernel that was described.

        Parameters
        ----------
        description
            What :meth:`describe` gave.
        adata
            Annotated data.
        part
            Makes another kernel of its description, each basic kernel once.
        matrix_of
            Gives the transition matrix of a basic kernel by its number; ``None`` if it had not been computed.

        Returns
        -------
        The kernel, computed if there is a matrix.

        Examples
        --------
        >>> cls, matrices = jv.kernels.ConnectivityKernel, {0: ck.transition_matrix}
        >>> cls.from_description(ck.describe(numbers=[0]), adata, part=cls, matrix_of=matrices.get)
        ConnectivityKernel[n=150, dnorm=True, key='connectivities']
        """

    @abc.abstractmethod
    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take a stored result, unchanged to the last bit.

        Parameters
        ----------
        matrix
            The transition matrix.
        params
            Parameters that it was computed with.

        Examples
        --------
        >>> other = jv.kernels.ConnectivityKernel(adata)
        >>> other.restore(ck.transition_matrix, ck.params)
        >>> (other.transition_matrix != ck.transition_matrix).nnz
        0
        """

    @abc.abstractmethod
    def arguments_to_store(self, key: str) -> dict[str, Any]:
        """Arguments, for CellRank, of the class that reads the kernel from ``adata.obsp[key]``.

        Parameters
        ----------
        key
            Key in ``adata.obsp`` of the matrix.

        Returns
        -------
        The arguments by name.

        Examples
        --------
        >>> vk.arguments_to_store("T_fwd")
        {'backward': False, 'attr': 'layers', 'xkey': 'Ms', 'vkey': 'velocity'}
        """

    @classmethod
    def recognizes(cls, init: dict[str, Any]) -> bool:
        """Whether these are the arguments that CellRank, which writes no class, stores for a kernel of this class.

        Parameters
        ----------
        init
            The stored arguments.

        Returns
        -------
        Whether they are; ``False`` for a kernel that CellRank does not have.

        Examples
        --------
        >>> stored = vk.arguments_to_store("T_fwd")
        >>> jv.kernels.VelocityKernel.recognizes(stored), jv.kernels.PseudotimeKernel.recognizes(stored)
        (True, False)
        """
        return False


def build(
    description: dict[str, Any],
    adata: AnnData,
    matrix_of: Callable[[int], sp.csr_matrix | None],
    combination: sp.csr_matrix | None,
) -> Described:
    """Build the kernel that was described.

    Parameters
    ----------
    description
        What :meth:`Described.describe` gave.
    adata
        Annotated data.
    matrix_of
        Gives the transition matrix of a basic kernel by its number; ``None`` if it had not been computed.
    combination
        Transition matrix of the whole, if it is a combination that had been computed.
    """
    known: dict[int, Described] = {}

    def part(of: dict[str, Any]) -> Described:
        number = int(of.get("number", -1))
        if number in known:
            return known[number]
        made = _class_named(str(of["type"])).from_description(of, adata, part, matrix_of)
        if number >= 0:
            known[number] = made
        return made

    kernel = part(description)
    if combination is not None:
        kernel.restore(combination, {})
    return kernel


def class_that_reads(init: dict[str, Any]) -> type[Described]:
    """Class of a kernel of which only CellRank's arguments are known."""
    return next((cls for cls in _concrete() if cls.recognizes(init)), class_that_accepts_any_matrix())


def class_that_accepts_any_matrix() -> type[Described]:
    """Class of a kernel of which nothing is known but the matrix."""
    return next(cls for cls in _concrete() if cls.accepts_any_matrix)


def _concrete() -> list[type[Described]]:
    return [cls for cls in _classes.values() if not inspect.isabstract(cls)]


def _class_named(name: str) -> type[Described]:
    """The class that is stored by this name; one of ours before a stranger's of the same name."""
    known = _concrete()
    found = [cls for cls in known if cls.__name__ == name]
    ours = [cls for cls in found if cls.__module__.partition(".")[0] == __package__.partition(".")[0]]
    if not found:
        raise ValueError(
            f"Expected a kernel of type {sorted({cls.__name__ for cls in known})}, found `{name}`. Import the module "
            "that defines it, or update jaxvelo to read it."
        )
    if len(found) > 1 and not ours:
        modules = sorted(cls.__module__ for cls in found)
        raise ValueError(
            f"Expected one class of kernels named `{name}`, found several, in {modules}: which of them was written is "
            "not known. Import one of these modules only, or rename one of the classes."
        )
    return (ours or found)[0]
