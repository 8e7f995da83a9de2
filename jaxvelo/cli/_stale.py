"""What belongs to results that are computed anew, and must not stay beside the new ones."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxvelo.annotated.fate_keys import FateKeys, colors_of, memberships_of, probabilities_of
from jaxvelo.annotated.fit_columns import FIT_ARRAYS, FIT_COLUMNS, FIT_LAYERS, MODEL, R2, STATUS
from jaxvelo.annotated.kinetic_tests import GROUPS, P_VALUE, P_VALUES, TESTED
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from anndata import AnnData

TRENDS = "trends"


def forget_fits(adata: AnnData) -> None:
    """Leave out what the file may hold of fits to other moments, and the genes that were chosen by them."""
    _leave_out(
        adata,
        "an earlier fit, as moments are new",
        var={"velocity_genes", "spearmans_score", R2, STATUS, MODEL, *FIT_COLUMNS, GROUPS, P_VALUE, TESTED},
        layers=set(FIT_LAYERS),
        varm={*FIT_ARRAYS, P_VALUES} if "fit_alpha" in adata.var else set(),
    )
    forget_ranks_of_fits(adata)


def forget_ranks_of_fits(adata: AnnData) -> None:
    """Leave out what the file may hold of the order of genes by the likelihoods of another fit."""
    _leave_out(adata, "ranks of genes by another fit", uns={"rank_dynamical_genes"})


def forget_components(adata: AnnData) -> None:
    """Leave out principal components, as they are to be computed anew."""
    _leave_out(adata, "principal components, to compute others", obsm={"X_pca"}, varm={"PCs"}, uns={"pca"})


def forget_velocities(adata: AnnData, vkey: str) -> None:
    """Leave out what the file may hold of other velocities: their graph, arrows, ranks, confidence and times."""
    times = {"latent_time"} if vkey in adata.layers else set()
    _leave_out(
        adata,
        "what belongs to other velocities, as velocities are new",
        layers={f"variance_{vkey}", f"{vkey}_u"},
        var={f"{vkey}_{name}" for name in ("gamma", "qreg_ratio", "r2", "offset", "offset2")} | {"velocity_score"},
        obs={
            *(f"{vkey}_{name}" for name in ("self_transition", "pseudotime", "length", "confidence")),
            f"{vkey}_confidence_transition",
            *times,
        },
        uns={f"{vkey}_params", f"{vkey}_graph", f"{vkey}_graph_neg", "rank_velocity_genes"},
        obsp={f"{vkey}_graph", f"{vkey}_graph_neg"},
        obsm=_arrows(adata, vkey),
    )


def forget_kernel(adata: AnnData, key: str) -> None:
    """Leave out the transition matrix that the file may hold under a key, the matrices of its parts and its arrows."""
    _leave_out(
        adata,
        "the file's transition matrix of this name, as there is a new one",
        obsp={key, *(name for name in adata.obsp if name.startswith(f"{key}_kernel"))},
        uns={f"{key}_params"},
        obsm=_arrows(adata, key),
    )


def forget_fates(adata: AnnData, backward: bool) -> None:
    """Leave out the file's states and fates of a transition matrix in this direction, and what follows from them."""
    keys = FateKeys(backward)
    states = (keys.macrostates, keys.terminal_states, keys.initial_states)
    names = {
        "obs": {*states, *map(probabilities_of, states), keys.priming_degree},
        "obsm": {
            *map(memberships_of, states),
            *(keys.schur_vectors, keys.fate_probabilities, keys.absorption_times, keys.perturbed_fates),
        },
        "uns": {
            *map(colors_of, states),
            *(keys.schur_matrix, keys.eigendecomposition, keys.coarse, keys.tsi, keys.parameters),
            keys.gene_perturbations,
        },
        "varm": {keys.lineage_drivers},
    }
    trends = adata.uns.get(TRENDS)
    if isinstance(trends, Mapping) and "curves" in trends:
        names["uns"].add(TRENDS)
        names["obs"].add(f"{TRENDS}_size_factors")
        names["varm"] |= {TRENDS, *(f"{TRENDS}_{part}" for part in ("coefficients", "covariances", "differences"))}
    if adata.raw is not None:
        names["raw.varm"] = {keys.lineage_drivers}
    _leave_out(adata, "states and fates, which belong to another transition matrix", **names)


def _arrows(adata: AnnData, key: str) -> set[str]:
    """Keys of arrows in any of the embeddings."""
    bases = {name.removeprefix("X_") for name in adata.obsm}
    return {f"{key}_{basis}" for basis in bases}


def _leave_out(adata: AnnData, what: str, **names: set[str]) -> None:
    """Delete what is there of these names, and say so."""
    slots = {slot: operator.attrgetter(slot)(adata) for slot in names}
    found = {slot: [key for key in slots[slot] if key in wanted] for slot, wanted in names.items()}
    for slot, keys in found.items():
        for key in keys:
            del slots[slot][key]
    if any(found.values()):
        logger.info("Leaving out %s: %s", what, ", ".join(itertools.chain(*found.values())))
