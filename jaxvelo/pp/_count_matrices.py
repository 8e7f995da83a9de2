"""X and the layers of counts together: what there is, and what each holds."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.counts import cell_sizes, check_finite, check_non_negative, is_zero, readable
from jaxvelo.configuration import logger
from jaxvelo.pp._count_layers import (
    COUNT_LAYERS,
    LAYERS,
    MEND_COUNTS,
    read_layer,
    report,
    states_of_layers,
    stored_size,
)
from jaxvelo.pp._in_place import require_in_memory
from jaxvelo.pp._state_of_counts import MOST_LOGARITHM, State, state_of


class Counts(NamedTuple):
    """The matrices as they are read, checked: layers by name, and X, in whose place the spliced counts may stand."""

    layers: dict[str, Any]
    x: Any
    x_is_spliced: bool

    def of(self, name: str) -> Any:
        """Return a layer, or X."""
        return self.x if name == "X" else self.layers[name]


def require_cells_and_genes(adata: AnnData) -> None:
    """Raise a ValueError if there are none, or if the object is backed by a file."""
    require_in_memory(adata)
    if 0 in adata.shape:
        raise ValueError(f"Expected cells and genes in `adata`, found {adata.n_obs} cells and {adata.n_vars} genes.")


def read_counts(adata: AnnData, names: Iterable[str] = ()) -> Counts:
    """Read the layers of counts that there are, the ones named, and X."""
    require_cells_and_genes(adata)
    there = [name for name in COUNT_LAYERS if name in adata.layers]
    layers = {name: read_layer(adata, name) for name in dict.fromkeys([*there, *names])}
    # No warning: without them there are kernels that need none, and what needs them says so.
    if absent := [name for name in LAYERS if name not in layers]:
        logger.info("Found no %s counts in `adata.layers`: velocities will not be possible.", " and no ".join(absent))
    x = None if adata.X is None else readable("adata.X", adata.X)
    if "spliced" not in layers:
        if x is not None:
            check_non_negative("adata.X", x, MEND_COUNTS)
        return Counts(layers, x, x_is_spliced=False)
    if x is None or is_zero(x):
        return Counts(layers, layers["spliced"], x_is_spliced=True)
    check_finite("adata.X", x, MEND_COUNTS)
    return Counts(layers, x, x_is_spliced=False)


def states_of(adata: AnnData, counts: Counts) -> dict[str, State]:
    """Tell what the layers of counts hold, together, and what X holds, which may be something else."""
    layers = {name: matrix for name, matrix in counts.layers.items() if name in COUNT_LAYERS}
    states = states_of_layers(adata, layers)
    if counts.x is None:
        return states
    if counts.x_is_spliced or _is_sum_of(counts.x, layers):
        own = states["spliced"]
    else:
        own = state_of(counts.x, stored_size(adata, "X"))
        if own.kind == "raw" and not own.certain and counts.x.max() <= MOST_LOGARITHM:
            # Nearly always, X holds logarithms where its values are so small and no whole numbers.
            own = State("unknown", "the values are small and no whole numbers, as logarithms are", certain=False)
    if "log1p" in adata.uns:
        if own.kind in ("raw", "normalized") and own.certain:
            logger.warning("Found `adata.uns['log1p']`, as if X were logarithmized, but it is not: %s.", own.reason)
        elif not own.certain and counts.x.max() <= MOST_LOGARITHM:
            own = State("logarithmized", "as `adata.uns['log1p']` says")
    return states | {"X": own}


def report_states(states: dict[str, State]) -> None:
    """Say in the log for what X and the layers are taken."""
    x = states["X"]
    layers = {name: state for name, state in states.items() if name != "X"}
    if {state.kind for state in layers.values()} == {x.kind}:
        report({"X": x, **layers})
        return
    report(layers)
    if x.kind == "logarithmized":
        logger.info("Took X for logarithmized: %s.", x.reason)
    elif x.kind != "scaled":
        report({"X": x})


def _is_sum_of(x: Any, layers: dict[str, Any]) -> bool:
    """Whether X holds the spliced counts, or these and the unspliced ones together."""
    sizes = cell_sizes(x)
    for names in (("spliced",), LAYERS):
        if not set(names) <= set(layers):
            continue
        if np.allclose(sum(cell_sizes(layers[name]).astype(float) for name in names), sizes, rtol=1e-4):
            difference = sum(
                (sp.csr_matrix(layers[name], dtype=float) for name in names), -sp.csr_matrix(x, dtype=float)
            )
            if abs(difference).max() <= 1e-5 * x.max():
                return True
    return False


def chosen_to_normalize(
    states: dict[str, State], targets: Iterable[str], enforce: bool | None
) -> tuple[list[str], list[str]]:
    """Say for what the matrices are taken; return which are raw, and which of X and the targets to normalise."""
    raw = [name for name, state in states.items() if state.kind == "raw"]
    if enforce is None:
        report_states(states)
        chosen = [name for name in ("X", *targets) if name in raw]
    else:
        chosen = [name for name in ("X", *targets) if enforce and (name != "X" or states["X"].kind != "scaled")]
    if states["X"].kind == "scaled":
        logger.warning("Left X as it is, as it is scaled: %s. Genes are chosen by spliced counts.", states["X"].reason)
    return raw, chosen


def holds_counts(state: State, is_normalized: bool) -> bool:
    """Whether X, normalised now or not, holds no logarithms nor scaled values for sure."""
    return is_normalized or state.kind == "raw" or (state.kind == "normalized" and state.certain)


def note_logarithms(uns: Any, is_done: bool, state: State) -> None:
    """Note that X holds logarithms now, or say why it was left as it is."""
    if is_done:
        uns["log1p"] = {"base": None}  # scanpy's sign that X is logarithmised
        logger.info("Logarithmized X.")
    elif state.kind == "logarithmized":
        logger.info("Did not logarithmize X, as it is logarithmized already: %s.", state.reason)
    elif state.kind != "scaled":
        logger.warning("Did not logarithmize X, as it looks processed already. To do so, call `sc.pp.log1p(adata)`.")
