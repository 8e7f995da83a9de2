"""An AnnData object of an estimator's own, to exchange with CellRank or to write."""

from __future__ import annotations

import copy as copying
from collections.abc import Mapping, Sequence
from typing import Any

import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.disk_arrays import is_on_disk
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.estimators._fate_entries import RESULTS, write_results
from jaxvelo.estimators._fate_results import FateResults

ATTRIBUTES = ("X", "raw", "layers", "obs", "var", "obsm", "varm", "obsp", "varp", "uns")


def adata_of_results(adata: AnnData, keys: FateKeys, results: FateResults) -> AnnData:
    """Make an AnnData object of the same cells and genes with the results and nothing else."""
    made = AnnData(sp.csr_matrix(adata.shape, dtype="float32"), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    if adata.raw is not None:
        raw = AnnData(sp.csr_matrix(adata.raw.shape, dtype="float32"), obs=made.obs, var=adata.raw.var[[]].copy())
        made.raw = raw
    write_results(made, keys, results, RESULTS)
    return made


def keep_attributes(made: AnnData, adata: AnnData, keep: Any, copy: Any) -> None:
    """Take over attributes of an AnnData object, but for entries that are there.

    Parameters
    ----------
    made
        Where they go.
    adata
        Where they come from, of the same cells and genes.
    keep
        ``"all"``, names of attributes, or a dictionary from names to keys, or ``True`` or ``"all"`` for all of them.
    copy
        Whether to copy them, or the names of those to copy.

    Raises
    ------
    KeyError
        If a key is not there.
    ValueError
        If there is no attribute of that name.
    """
    wanted = dict(keep) if isinstance(keep, Mapping) else dict.fromkeys(_attributes(keep), True)
    copied = (ATTRIBUTES if copy else ()) if isinstance(copy, bool) else _attributes(copy)
    unknown = [name for name in wanted if name not in ATTRIBUTES]
    if unknown:
        raise ValueError(f"Expected `keep` to name attributes {listed(ATTRIBUTES)}, found {listed(unknown)}.")
    for name, chosen in wanted.items():
        if name == "X":
            made.X = _copied(adata.X) if name in copied else adata.X
        elif name == "raw":
            made.raw = None if adata.raw is None else adata.raw.to_adata()
        elif chosen is not False:
            _keep_entries(getattr(made, name), getattr(adata, name), chosen, f"adata.{name}", name in copied)


def _attributes(named: Any) -> Sequence[str]:
    if isinstance(named, str):
        return ATTRIBUTES if named == "all" else (named,)
    return tuple(named)


def _keep_entries(made: Any, source: Any, chosen: Any, where: str, copy: bool) -> None:
    known = [key for key in source if key is not None]  # anndata lists `X` among the layers under None
    keys = known if chosen is True or chosen == "all" else [chosen] if isinstance(chosen, str) else list(chosen)
    missing = [key for key in keys if key not in known]
    if missing:
        raise KeyError(f"Expected keys of `{where}`, found {listed(missing)} not there. There are {listed(known)}.")
    for key in keys:
        if key not in made:
            made[key] = _copied(source[key]) if copy else source[key]


def _copied(array: Any) -> Any:
    """What is on disk stays there, as it is not changed there."""
    return array if is_on_disk(array) else copying.deepcopy(array)
