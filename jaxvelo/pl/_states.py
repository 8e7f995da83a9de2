"""Colours of states: those that are stored, or some that colour-blind readers can tell apart."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.fate_keys import FateKeys, colors_of
from jaxvelo.annotated.palette import default_palette
from jaxvelo.annotated.stored_states import Memberships, chosen_states, known_states, read_assignment

from ._colors import Categorical, Palette, group_colors

if TYPE_CHECKING:
    from anndata import AnnData

# Okabe and Ito (2008), without black; the yellow last, as it is weak on white.
SAFE_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442")


def state_palette(n: int) -> list[str]:
    """Give ``n`` colours, safe for colour-blind readers as far as there are such."""
    return list(SAFE_COLORS[:n]) if n <= len(SAFE_COLORS) else default_palette(n)


def state_colors(adata: "AnnData", key: str, names: list[str], palette: Palette = None) -> list[str]:
    """Give the states of ``obs[key]`` their stored colours, or those of the user."""
    if palette is None and colors_of(key) not in adata.uns:
        return state_palette(len(names))
    return group_colors(adata, key, names, palette)


def assigned(adata: "AnnData", key: str, remedy: str, palette: Palette = None) -> Categorical:
    """Read the cells that stand for the states of ``obs[key]``."""
    names, codes = read_assignment(adata, key, remedy)
    return Categorical(key, codes, names, state_colors(adata, key, names, palette), missing="")


def some_states(of: Categorical, states: Any) -> Categorical:
    """Give those of the states that a user names, in this order; cells of others stand for none."""
    chosen = chosen_states(of.names, states)
    number = np.full(len(of.names) + 1, -1)
    number[chosen] = np.arange(len(chosen))
    names, colors = [of.names[i] for i in chosen], [of.colors[i] for i in chosen]
    return dataclasses.replace(of, codes=number[of.codes], names=names, colors=colors)


def shaded(key: str, of: Memberships, colors: list[str]) -> Categorical:
    """Give every cell the colour of the state that it belongs to most, the paler the closer the next comes.

    A cell is grey where two states are equal, so that colours change without a jump, and has its state's full colour
    where the lead over the next is as large as anywhere in this state.
    """
    known = np.isfinite(of.values).all(axis=1)
    values = np.where(known[:, None], of.values, 0.0)
    codes = values.argmax(axis=1)
    ranked = np.sort(values, axis=1)
    leads = ranked[:, -1] - ranked[:, -2]
    largest = np.zeros(len(of.names))
    np.maximum.at(largest, codes, leads)
    strengths = leads / np.where(largest > 0, largest, 1.0)[codes]
    return Categorical(key, np.where(known, codes, -1), of.names, colors, missing="", strengths=strengths)


def fate_colors(adata: "AnnData", keys: FateKeys, names: list[str], palette: Palette = None) -> dict[str, str]:
    """Give each fate the colour of the terminal state of its name; others where these are not stored."""
    states = known_states(adata, keys.terminal_states)
    if palette is not None or not set(names) <= set(states):
        return dict(zip(names, state_colors(adata, "", names, palette), strict=True))
    colors = dict(zip(states, state_colors(adata, keys.terminal_states, states), strict=True))
    return {name: colors[name] for name in names}
