"""A map of a tree of fates, on which a cell stands as far along its lineage as its expression has come."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int

from jaxvelo.datasets._fate_tree import BRANCHING, END, FateTree
from jaxvelo.datasets._splicing_state import splicing_state


def expression_path(
    time: Float[np.ndarray, " cells"],
    lineage: Int[np.ndarray, " cells"],
    tree: FateTree,
    alpha: Float[np.ndarray, " genes"],
    beta: Float[np.ndarray, " genes"],
    gamma: Float[np.ndarray, " genes"],
    on: Float[np.ndarray, "genes fates"],
    off: Float[np.ndarray, "genes fates"],
) -> Float[np.ndarray, " cells"]:
    """Give how far along its lineage a cell has come, in [0, 1]: half by time, half by the change of expression."""
    hours = np.linspace(0.0, END, 241)
    progress = np.empty(len(time))
    for fate in range(on.shape[1]):
        _, spliced = splicing_state(hours[:, None], alpha, beta, gamma, on[:, fate], off[:, fate])
        steps = np.linalg.norm(np.diff(np.log1p(spliced), axis=0), axis=1)
        travelled = np.concatenate([[0.0], np.cumsum(steps)])
        # Scaled on the trunk and on each branch, so that lineages part at one point.
        stops = [0.0, BRANCHING, *(tree.branches[number].end for number in tree.path(fate))]
        scaled = [np.zeros(1)]
        first = 0
        for start, end in itertools.pairwise(stops):
            last = int(np.searchsorted(hours, end))
            way = travelled[first + 1 : last + 1] - travelled[first]
            scaled.append(start + way / way[-1] * (end - start) if way[-1] > 0 else hours[first + 1 : last + 1])
            first = last
        path = 0.5 * (np.concatenate(scaled) + hours) / END
        cells = lineage == fate
        progress[cells] = np.interp(time[cells], hours, path)
    return progress


def tree_map(
    rng: np.random.Generator,
    progress: Float[np.ndarray, " cells"],
    lineage: Int[np.ndarray, " cells"],
    tree: FateTree,
    n_dims: int,
) -> Float[np.ndarray, "cells dims"]:
    """Lay the tree out: a gently curved trunk, then branches that turn away from each other, all with some width."""
    steps = np.linspace(0.0, 1.0, 401)
    angle_of_trunk = 0.7 * np.sin(2 * np.pi * np.minimum(steps / (BRANCHING / END), 1.0))
    turn = _plane_turns if n_dims == 2 else _space_turns
    position = np.empty((len(progress), n_dims))
    for fate in range(len(tree.fates)):
        heading = turn(tree, fate, steps, angle_of_trunk)
        curve = np.concatenate([np.zeros((1, n_dims)), np.cumsum(heading[1:] * np.diff(steps)[:, None], axis=0)])
        cells = lineage == fate
        for dim in range(n_dims):
            position[cells, dim] = np.interp(progress[cells], steps, curve[:, dim])
    return (20.0 * (position + 0.025 * rng.standard_normal(position.shape))).astype(np.float32)


def _turned(steps: Float[np.ndarray, " steps"], start: float) -> Float[np.ndarray, " steps"]:
    """Give which part of its opening a branch that starts at an hour has turned: off, then half way back."""
    along = np.clip((steps - start / END) / (1 - start / END), 0.0, 1.0)
    turned = np.clip(along / 0.4, 0.0, 1.0)
    return turned**2 * (3 - 2 * turned) * (1 - 0.5 * along**2)


def _plane_turns(
    tree: FateTree, fate: int, steps: Float[np.ndarray, " steps"], angle_of_trunk: Float[np.ndarray, " steps"]
) -> Float[np.ndarray, "steps 2"]:
    """Fates lie side by side in a fan; an inner branch heads for the middle of its fates."""
    n_fates = len(tree.fates)
    fan = np.full(1, 0.6) if n_fates == 1 else np.linspace(1.0, -1.0, n_fates)
    widest = np.deg2rad(min(50.0 + 10.0 * n_fates, 130.0))
    angle, middle = angle_of_trunk, 0.0
    for number in tree.path(fate):
        branch = tree.branches[number]
        aim = fan[list(branch.fates)].mean()
        # The later branches part, the sooner they have to be out of each other's way.
        haste = np.sqrt((END - BRANCHING) / (END - branch.start))
        angle = angle + widest * (aim - middle) * haste * _turned(steps, branch.start)
        middle = aim
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _space_turns(
    tree: FateTree, fate: int, steps: Float[np.ndarray, " steps"], angle_of_trunk: Float[np.ndarray, " steps"]
) -> Float[np.ndarray, "steps 3"]:
    """Branches of one branching stand in a circle about the branch that they come from."""
    ahead, left, up = np.cos(angle_of_trunk), np.sin(angle_of_trunk), 0.0
    around = 0.0
    for number in tree.path(fate):
        branch = tree.branches[number]
        siblings = [i for i, other in enumerate(tree.branches) if other.parent == branch.parent]
        # A quarter turn from the parent's direction, so that its children part across the plane that it lies in.
        around += 2 * np.pi * siblings.index(number) / len(siblings) + (0.0 if branch.parent is None else np.pi / 2)
        opening = np.deg2rad(65.0) * _turned(steps, branch.start)
        ahead = ahead * np.cos(opening)
        left = left + np.sin(opening) * np.cos(around)
        up = up + np.sin(opening) * np.sin(around)
    return np.stack([ahead, left, up], axis=1)
