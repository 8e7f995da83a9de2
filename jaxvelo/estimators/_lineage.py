"""A table of cells by states: memberships, or probabilities of fates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.lib.mixins import NDArrayOperatorsMixin

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.lineage_priming import lineage_priming
from jaxvelo.annotated.names import text_of
from jaxvelo.annotated.palette import default_palette
from jaxvelo.estimators._mixtures import mixtures_of
from jaxvelo.estimators._state_colors import given_colors, mean_color, text_color

_SHOWN = 10
"""Rows of a longer table that are printed."""


class Lineage(NDArrayOperatorsMixin):
    """Cells by states, with names and colours of the states. It never changes.

    ``lineage["Alpha"]`` and ``lineage[["Alpha", "Beta"]]`` choose states, ``lineage["Alpha, Beta"]`` adds them up;
    ``lineage[rows]`` chooses cells by numbers, a slice or a mask, and ``lineage[rows, "Alpha"]`` both. The result is
    always another table. ``lineage.X`` or ``np.asarray(lineage)`` is the array; operators, functions of NumPy and
    ``lineage.sum()`` give plain arrays too, as ``lineage > 0.5``. A single state can become a column,
    ``adata.obs["a"] = lineage["Alpha"]``.

    Parameters
    ----------
    input_array
        Numbers of shape ``(cells, states)``; a single column may be of shape ``(cells,)``.
    names
        Names of the states, each once.
    colors
        Their colours; others for each if ``None``.

    Raises
    ------
    ValueError
        If names, colours and columns do not match, a name occurs twice, or there are no cells or no states.

    Examples
    --------
    >>> fates = jv.estimators.Lineage([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]], names=["Alpha", "Beta", "Delta"])
    >>> fates["Alpha, Beta"].X.tolist()
    [[1.0], [0.5]]
    >>> fates[1, ["Beta", "Delta"]].X.tolist()
    [[0.3, 0.5]]
    """

    def __init__(self, input_array: Any, *, names: Iterable[Any], colors: Iterable[Any] | None = None):
        array = np.array(input_array)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or not array.size:
            raise ValueError(f"Expected an array of cells by states, found the shape {np.shape(input_array)}.")
        names = [text_of(name) for name in names]
        if len(names) != array.shape[1]:
            raise ValueError(f"Expected {array.shape[1]} names, one for each column, found {len(names)}.")
        if len(set(names)) != len(names):
            raise ValueError(f"Expected each name once, found {listed(names)}.")
        array.setflags(write=False)
        self._array = array
        self._names = names
        self._colors = default_palette(len(names)) if colors is None else given_colors(colors, len(names))

    @property
    def X(self) -> Float[np.ndarray, "cells states"]:
        """The numbers, read-only."""
        return self._array

    @property
    def names(self) -> np.ndarray:
        """Names of the states."""
        return np.array(self._names)

    @property
    def colors(self) -> np.ndarray:
        """Colours of the states, in hexadecimal form."""
        return np.array(self._colors)

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, states)``."""
        n_cells, n_states = self._array.shape
        return n_cells, n_states

    @property
    def ndim(self) -> int:
        """Two."""
        return self._array.ndim

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self._array.dtype

    @property
    def T(self) -> Float[np.ndarray, "states cells"]:
        """The numbers, states by cells."""
        return self._array.T

    def copy(self) -> Lineage:
        """Return the table again, since it never changes.

        Examples
        --------
        >>> g.fate_probabilities.copy() is g.fate_probabilities
        True
        """
        return self

    def sum(self, axis: int | None = None, **kwargs: Any) -> Any:
        """Sum as of an array.

        Parameters
        ----------
        axis, **kwargs
            As of :meth:`numpy.ndarray.sum`: 0 over cells, 1 over states.

        Returns
        -------
        A number or a plain array.

        Examples
        --------
        >>> fates = jv.estimators.Lineage([[0.75, 0.25], [0.5, 0.5]], names=["Alpha", "Beta"])
        >>> fates.sum(axis=1)
        array([1., 1.])
        """
        return self._array.sum(axis, **kwargs)

    def mean(self, axis: int | None = None, **kwargs: Any) -> Any:
        """Mean as of an array.

        Parameters
        ----------
        axis, **kwargs
            As of :meth:`numpy.ndarray.mean`: 0 over cells, 1 over states.

        Returns
        -------
        A number or a plain array.

        Examples
        --------
        >>> fates = jv.estimators.Lineage([[0.75, 0.25], [0.5, 0.5]], names=["Alpha", "Beta"])
        >>> fates.mean(axis=0)
        array([0.625, 0.375])
        """
        return self._array.mean(axis, **kwargs)

    def min(self, axis: int | None = None, **kwargs: Any) -> Any:
        """Smallest number as of an array.

        Parameters
        ----------
        axis, **kwargs
            As of :meth:`numpy.ndarray.min`: 0 over cells, 1 over states.

        Returns
        -------
        A number or a plain array.

        Examples
        --------
        >>> fates = jv.estimators.Lineage([[0.75, 0.25], [0.5, 0.5]], names=["Alpha", "Beta"])
        >>> fates.min(axis=0)
        array([0.5 , 0.25])
        """
        return self._array.min(axis, **kwargs)

    def max(self, axis: int | None = None, **kwargs: Any) -> Any:
        """Largest number as of an array.

        Parameters
        ----------
        axis, **kwargs
            As of :meth:`numpy.ndarray.max`: 0 over cells, 1 over states.

        Returns
        -------
        A number or a plain array.

        Examples
        --------
        >>> fates = jv.estimators.Lineage([[0.75, 0.25], [0.5, 0.5]], names=["Alpha", "Beta"])
        >>> fates.max(axis=0)
        array([0.75, 0.5 ])
        """
        return self._array.max(axis, **kwargs)

    def argmax(self, axis: int | None = None, **kwargs: Any) -> Any:
        """Place of the largest number as of an array.

        Parameters
        ----------
        axis, **kwargs
            As of :meth:`numpy.ndarray.argmax`: 0 over cells, 1 over states.

        Returns
        -------
        A number or a plain array of them.

        Examples
        --------
        >>> fates = jv.estimators.Lineage([[0.75, 0.25], [0.0, 1.0]], names=["Alpha", "Beta"])
        >>> fates.names[fates.argmax(axis=1)].tolist()
        ['Alpha', 'Beta']
        """
        return self._array.argmax(axis, **kwargs)

    @property
    def nlin(self) -> int:
        """Number of states."""
        return self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype=dtype) if copy else np.asarray(self._array, dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs and any(isinstance(value, Lineage) for value in kwargs["out"]):
            return NotImplemented  # a table never changes
        plain = [value.X if isinstance(value, Lineage) else value for value in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._array)

    def __getitem__(self, item: Any) -> Lineage:
        if isinstance(item, tuple):
            if len(item) != 2:
                raise IndexError(f"Expected cells and states in `lineage[cells, states]`, found {len(item)} entries.")
            rows, columns = item
            if _are_names(rows):
                raise IndexError(
                    f"Expected cells and states in `lineage[cells, states]`, found `{rows!r}` as cells. Choose several "
                    "states by a list, as `lineage[['Alpha', 'Beta']]`."
                )
            return self._of_states(columns)._of_cells(rows)
        return self._of_states(item) if _are_names(item) else self._of_cells(item)

    def _of_cells(self, rows: Any) -> Lineage:
        rows = slice(None) if rows is None or rows is Ellipsis else rows
        return Lineage(
            self._array[np.atleast_1d(rows) if np.isscalar(rows) else rows], names=self._names, colors=self._colors
        )

    def _of_states(self, columns: Any) -> Lineage:
        columns = slice(None) if columns is None or columns is Ellipsis else columns
        if _are_names(columns):
            wanted = [columns] if isinstance(columns, str) else list(columns)
            mixed = mixtures_of(wanted, self._names, "lineages")
        else:
            places = np.atleast_1d(np.arange(self.nlin)[columns])
            mixed = {self._names[place]: [int(place)] for place in places}
        return Lineage(
            np.stack([self._array[:, places].sum(axis=1) for places in mixed.values()], axis=1),
            names=list(mixed),
            colors=[mean_color([self._colors[place] for place in places]) for places in mixed.values()],
        )

    def renamed(self, new_names: dict[str, str]) -> Lineage:
        """Return the table with other names for some of the states.

        Parameters
        ----------
        new_names
            New names by the old ones; others stay.

        Returns
        -------
        The table with these names.

        Raises
        ------
        ValueError
            If a name would be there twice.

        Examples
        --------
        >>> g.fate_probabilities.renamed({"Fate A": "Alpha"}).names.tolist()
        ['Alpha', 'Fate B']
        """
        return Lineage(self._array, names=[new_names.get(name, name) for name in self._names], colors=self._colors)

    def priming_degree(
        self,
        method: Literal["kl_divergence", "entropy"] = "kl_divergence",
        early_cells: np.ndarray | None = None,
    ) -> Float[np.ndarray, " cells"]:
        """Degree of priming of each cell, if these are fates; see :func:`jaxvelo.estimators.lineage_priming`.

        Parameters
        ----------
        method
            ``"kl_divergence"`` or ``"entropy"``.
        early_cells
            Mask or numbers of the early cells; all if ``None``.

        Returns
        -------
        The degree of each cell, 0 for the least and 1 for the most committed one.

        Examples
        --------
        >>> fates = jv.estimators.Lineage([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]], names=["Alpha", "Beta"])
        >>> fates.priming_degree("entropy").round(2)
        array([0.  , 0.19, 1.  ])
        """
        early = np.ones(len(self), dtype=bool)
        if early_cells is not None:
            early[:] = False
            early[np.asarray(early_cells)] = True
        return lineage_priming(self._array, method, early)

    def to_frame(self, index: pd.Index | None = None) -> pd.DataFrame:
        """Give the table as a data frame.

        Parameters
        ----------
        index
            Names of the cells; their numbers if :obj:`None`.

        Returns
        -------
        A row for each cell, a column for each state.

        Examples
        --------
        >>> g.fate_probabilities.to_frame(adata.obs_names).columns.tolist()
        ['Fate A', 'Fate B']
        """
        return pd.DataFrame(self._array, index=index, columns=self._names)

    def __repr__(self) -> str:
        table = self.to_frame().to_string(max_rows=_SHOWN, float_format="{:.6f}".format)
        return f"{table}\n\n[{len(self)} cells x {self.nlin} lineages]"

    def _repr_html_(self) -> str:
        style = "background-color: {}; color: {}; text-align: center"
        heads = "".join(
            f'<th style="{style.format(color, text_color(color))}">{escape(name)}</th>'
            for name, color in zip(self._names, self._colors, strict=True)
        )
        rows = [[f"{number:.6f}" for number in row] for row in self._array[:_SHOWN]]
        if len(self) > 2 * _SHOWN:
            last = [[f"{number:.6f}" for number in row] for row in self._array[-_SHOWN:]]
            rows = [*rows, ["..."] * self.nlin, *last]
        elif len(self) > _SHOWN:
            rows = [[f"{number:.6f}" for number in row] for row in self._array]
        body = "".join(f"<tr>{''.join(f'<td>{number}</td>' for number in row)}</tr>" for row in rows)
        return f"<table><tr>{heads}</tr>{body}</table><p>{len(self)} cells x {self.nlin} lineages</p>"


def _are_names(item: Any) -> bool:
    """Whether an index names states: text, or a list with nothing else."""
    if isinstance(item, str):
        return True
    several = isinstance(item, list | pd.Index) or (isinstance(item, np.ndarray) and item.dtype.kind in "OU")
    return several and len(item) > 0 and all(isinstance(entry, str) for entry in item)
