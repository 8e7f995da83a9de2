"""The tree that simulated cells go along: a trunk, branchings at known hours, and fates at the tips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# Hours. The trunk is left at BRANCHING, every lineage ends at END; cells before COMMITTED are called progenitors.
COMMITTED, BRANCHING, END = 5.0, 10.0, 24.0
PROGENITOR, INTERMEDIATE = "Progenitor", "Intermediate"

MAX_FATES = 26


@dataclass(frozen=True)
class Branch:
    """What lies between two branchings, or between a branching and the end.

    Attributes
    ----------
    name
        The fate that it leads to, or, as ``"A, B or C"``, the fates.
    fates
        Their numbers.
    start, end
        Hours.
    parent
        Number of the branch that it starts from; ``None`` for the trunk.
    """

    name: str
    fates: tuple[int, ...]
    start: float
    end: float
    parent: int | None


@dataclass(frozen=True)
class FateTree:
    """Branches behind the trunk, a branch before its children, and the share of the cells that go to each fate."""

    fates: tuple[str, ...]
    branches: tuple[Branch, ...]
    shares: Float[np.ndarray, " fates"]

    def path(self, fate: int) -> list[int]:
        """Give the numbers of the branches that lead to a fate, in the order of time."""
        return [number for number, branch in enumerate(self.branches) if fate in branch.fates]

    @property
    def depth(self) -> int:
        """Largest number of branches on the way to a fate."""
        return max(len(self.path(fate)) for fate in range(len(self.fates)))

    def branch_of(
        self, time: Float[np.ndarray, " cells"], lineage: Int[np.ndarray, " cells"]
    ) -> Int[np.ndarray, " cells"]:
        """Give the number of the branch that each cell is on, -1 on the trunk."""
        number = np.full(len(time), -1)
        for i, branch in enumerate(self.branches):
            number[np.isin(lineage, branch.fates) & (time >= branch.start)] = i
        return number

    def fate_probabilities(self) -> Float[np.ndarray, "branches fates"]:
        """Give how a cell's fate is distributed on each branch, on the trunk in the last row."""
        below = np.zeros((len(self.branches), len(self.fates)))
        for i, branch in enumerate(self.branches):
            below[i, list(branch.fates)] = self.shares[list(branch.fates)]
        return np.concatenate([below / below.sum(axis=1, keepdims=True), self.shares[None]])

    def numbers_of_cells(self, n_cells: int) -> Int[np.ndarray, " fates"]:
        """Share cells out among the fates; those that the rounding leaves over go to the largest remainders."""
        expected = self.shares * n_cells
        numbers = np.floor(expected).astype(int)
        left_over = np.argsort(numbers - expected, kind="stable")[: n_cells - numbers.sum()]
        numbers[left_over] += 1
        return numbers

    def fates_of_cells(self, n_cells: int) -> Int[np.ndarray, " cells"]:
        """Give fates in turn, so that every stretch of cells has about the right share of each."""
        numbers = self.numbers_of_cells(n_cells)
        turn = np.concatenate([np.arange(number) / share for number, share in zip(numbers, self.shares, strict=True)])
        return np.repeat(np.arange(len(numbers)), numbers)[np.argsort(turn, kind="stable")]


def fate_tree(n_branches: int | None, tree: Any, fractions: Sequence[float] | None) -> FateTree:
    """Read the tree from the arguments of :func:`jaxvelo.datasets.simulate`, or raise."""
    if tree is None:
        fates = [f"Fate {chr(ord('A') + fate)}" for fate in range(_checked_number(n_branches))]
        tree = tuple(fates)
    else:
        if n_branches is not None:
            raise ValueError(
                f"Expected `n_branches` or `tree`, which says how many fates there are; found "
                f"`n_branches={n_branches!r}` and `tree={tree!r}`."
            )
        fates = list(_fates_below(tree))
        _check_names(fates)
    branches: list[Branch] = []
    _grow(tree, BRANCHING, None, {name: number for number, name in enumerate(fates)}, branches)
    return FateTree(tuple(fates), tuple(branches), _checked_shares(fractions, fates))


def _grow(node: Any, start: float, parent: int | None, numbers: dict[str, int], branches: list[Branch]) -> None:
    """Append the children of a node, and what grows from them."""
    for child in node:
        names = tuple(_fates_below(child))
        # The time that is left is shared evenly by the branches on the longest way to a tip.
        end = start + (END - start) / (1 + _height(child))
        branches.append(Branch(_joined(names), tuple(numbers[name] for name in names), start, end, parent))
        if not isinstance(child, str):
            _grow(child, end, len(branches) - 1, numbers, branches)


def _height(node: Any) -> int:
    return 0 if isinstance(node, str) else 1 + max(map(_height, node))


def _joined(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _fates_below(node: Any) -> Iterator[str]:
    """Give the names at the tips from left to right, or raise."""
    if isinstance(node, str):
        yield node
        return
    if not isinstance(node, tuple | list) or len(node) < 2:
        raise ValueError(
            "Expected `tree` to be a tuple of two or more branches, each the name of a fate or such a tuple again, as "
            f'in `(("Alpha", "Beta"), "Delta")`; found `{node!r}`.'
        )
    for child in node:
        yield from _fates_below(child)


def _check_names(fates: list[str]) -> None:
    """Raise if names of fates cannot name clusters."""
    if len(fates) == 1:
        raise ValueError(
            f"Expected `tree` to have two fates or more, found `{fates[0]!r}`. For one fate, take `n_branches=1`."
        )
    if len(fates) > MAX_FATES:
        raise ValueError(f"Expected `tree` to have {MAX_FATES} fates at most, found {len(fates)}.")
    repeated = sorted({name for name in fates if fates.count(name) > 1})
    if repeated:
        raise ValueError(f"Expected every fate of `tree` to have a name of its own, found {repeated} more than once.")
    for name in fates:
        # Inner branches are named after their fates, and "/" is no part of a key in a file.
        if not name.strip() or name in (PROGENITOR, INTERMEDIATE) or "/" in name or " or " in name or "," in name:
            raise ValueError(
                f"Expected names of fates in `tree` that are not empty, hold no comma, slash or ` or `, and are "
                f"neither {PROGENITOR!r} nor {INTERMEDIATE!r} (clusters of the trunk); found {name!r}."
            )


def _checked_number(n_branches: int | None) -> int:
    number = 2 if n_branches is None else n_branches
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise ValueError(f"Expected `n_branches` to be an integer, found `{number!r}`.")
    if not 1 <= number <= MAX_FATES:
        raise ValueError(f"Expected `n_branches` to be 1 to {MAX_FATES}, found `{number}`.")
    return int(number)


def _checked_shares(fractions: Sequence[float] | None, fates: list[str]) -> Float[np.ndarray, " fates"]:
    if fractions is None:
        return np.full(len(fates), 1.0 / len(fates))
    try:
        shares = np.asarray(fractions, dtype=float)
    except (TypeError, ValueError):
        shares = np.empty(0)
    if shares.shape != (len(fates),):
        raise ValueError(
            f"Expected `fractions` to hold {len(fates)} numbers, one for each of the fates {fates} in this order; "
            f"found `{fractions!r}`."
        )
    # A comparison with NaN is false.
    if not (np.all(shares > 0) and abs(shares.sum() - 1) < 1e-6):
        raise ValueError(
            f"Expected `fractions` to be positive and to sum to 1, found `{fractions!r}`, whose sum is "
            f"{shares.sum():.6g}."
        )
    return shares / shares.sum()
