"""Which cells of two data sets are the same, told by their names."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import listed

# A run of bases, also of several parts, or bases and a number. velocyto puts an x behind it.
_BARCODE = re.compile(r"(?<![A-Za-z0-9])(?:[ACGTN]{8,}(?:[-_+][ACGTN]{6,})*|[ACGT]{4,}[0-9]+)(?=x?(?![A-Za-z0-9]))")
_SEPARATORS = "-_.:#|/ "
# Barcodes that two samples share by chance are rarer than that; so many of them, at least, tell what belongs together.
_CLEAR, _LEAST = 0.98, 3


class CellMatches(NamedTuple):
    """Cells that are the same in two data sets, in the order of the first."""

    ours: np.ndarray
    theirs: np.ndarray
    # Samples of the first data set, and which ones of the second they are.
    samples: dict[str, str]


def match_cells(ours: pd.Index, theirs: pd.Index, samples: Mapping[str, str] | None = None) -> CellMatches:
    """Find the cells of two data sets that are the same.

    Names that are equal match. Otherwise the barcode in them must be the same, which is the run of bases without an
    ``x`` behind it; what stands around it (``sample1:``, ``-1``, ``-1_2``) names the sample. Samples belong together
    if the argument says so, if they have the same name, or if nearly all barcodes of the one that occur once in each
    data set are those of the other, and the other way round. Then only cells of samples that belong together match.

    Parameters
    ----------
    ours, theirs
        Names of the cells.
    samples
        Samples of the first data set, and which ones of the second they are.

    Returns
    -------
    Positions of the cells in both, and the samples that belong together.

    Raises
    ------
    ValueError
        If a cell could be several ones, or no cell matches.
    """
    names = pd.Index(ours.astype(str)), pd.Index(theirs.astype(str))
    if samples is None and all(index.is_unique for index in names) and names[0].isin(names[1]).all():
        return CellMatches(np.arange(len(names[0])), names[1].get_indexer(names[0]), {})
    first, second = (_parsed(index) for index in names)
    together = _samples_together(first, second, dict(samples or {}))

    target = pd.Series([together.get(sample) for sample in first["sample"]], dtype=object)
    equal = first.assign(target=target).merge(second, on="name")
    equal = equal[equal["target"].isna() | (equal["target"] == equal["sample_y"])]
    rest = ~first["row"].isin(equal["row_x"])
    known = first[rest & target.notna()].assign(sample=target).merge(second, on=["barcode", "sample"])
    left = second[~second["sample"].isin(list(together.values()))]
    free = first[rest & target.isna()].merge(left, on="barcode")
    pairs = pd.concat([found[["row_x", "row_y"]] for found in (equal, known, free)]).astype(np.int64)
    unclear = pairs[pairs["row_x"].duplicated(keep=False) | pairs["row_y"].duplicated(keep=False)]
    if len(unclear):
        raise ValueError(_what_is_unclear(unclear, first, second))
    if not len(pairs):
        raise ValueError(
            f"Expected cells of `adata` in `counts`, found none. The cells of `adata` are named like "
            f"{listed(names[0][:3])}, those of `counts` like {listed(names[1][:3])}. Bring `counts.obs_names` to the "
            "names of `adata`; if these hold barcodes: are both of the same sample?"
        )
    pairs = pairs.sort_values("row_x")
    return CellMatches(pairs["row_x"].to_numpy(), pairs["row_y"].to_numpy(), together)


def _parsed(names: pd.Index) -> pd.DataFrame:
    """Barcode and sample of each name."""
    parts = [_split(name) for name in names]
    barcodes, prefixes, suffixes = (list(part) for part in zip(*parts, strict=True)) if parts else ([], [], [])
    if not any(_BARCODE.search(name) for name in names):
        # Names of another kind. What they all end in tells no cell from another.
        ends = {match[0] if (match := re.search(r"-\d+$", name)) else "" for name in barcodes}
        if len(ends) == 1:
            barcodes = [name.removesuffix(end) for name in barcodes for end in ends]
    # The number of the well of 10x Genomics, which stands right after the barcode, names the sample where it varies.
    wells = [suffix[0] if suffix and suffix[0].isdigit() else "" for suffix in suffixes]
    varies = len(set(wells)) > 1
    samples = []
    for prefix, suffix, well in zip(prefixes, suffixes, wells, strict=True):
        rest = suffix[1:] if well else suffix
        samples.append("_".join(part for part in (prefix, *rest, well if varies else "") if part))
    return pd.DataFrame(
        {"name": names.to_numpy(), "barcode": barcodes, "sample": samples, "row": np.arange(len(names))}
    ).astype({"name": object, "barcode": object, "sample": object})


def _split(name: str) -> tuple[str, str, list[str]]:
    """Barcode of a name, what stands before it, and the parts of what stands after it."""
    found = max(_BARCODE.finditer(name), key=lambda match: (len(match[0]), match.start()), default=None)
    if found is None:
        before, colon, barcode = name.rpartition(":")
        return barcode.removesuffix("x") if colon else barcode, before, []
    after = name[found.end() :].removeprefix("x")
    parts = [part for part in re.split(f"[{re.escape(_SEPARATORS)}]+", after) if part]
    return found[0], name[: found.start()].strip(_SEPARATORS), parts


def _samples_together(first: pd.DataFrame, second: pd.DataFrame, together: dict[str, str]) -> dict[str, str]:
    """Tell which samples of the first data set are which ones of the second, for those where it is clear."""
    known = [list(frame["sample"].unique()) for frame in (first, second)]
    for given, names, where in ((list(together), known[0], "adata"), (list(together.values()), known[1], "counts")):
        absent = [sample for sample in given if sample not in names]
        if absent:
            raise ValueError(
                f"Expected samples of `{where}` in `samples`, found {listed(absent)}. The names of its cells have "
                f"{listed(names)}."
            )
    if len(set(together.values())) < len(together):
        raise ValueError(f"Expected a sample of `counts` to stand once in `samples`, found `{together}`.")
    for sample in known[0]:
        # A number alone may count samples in another order.
        if sample in known[1] and re.search("[A-Za-z]", sample) and sample not in together.values():
            together.setdefault(sample, sample)
    # Cells whose names have no sample may be of any, however many are of one.
    settled = [[*together, ""], [*together.values(), ""]]
    once = [frame[~frame["barcode"].duplicated(keep=False)] for frame in (first, second)]
    shared = once[0].merge(once[1], on="barcode")
    shared = shared[~shared["sample_x"].isin(settled[0]) & ~shared["sample_y"].isin(settled[1])]
    n_shared = shared.groupby(["sample_x", "sample_y"]).size()
    for (ours, theirs), number in n_shared.items():
        others = max(n_shared.xs(ours, level="sample_x").sum(), n_shared.xs(theirs, level="sample_y").sum())
        if number >= max(_LEAST, _CLEAR * others):
            together[ours] = theirs
    return together


def _what_is_unclear(unclear: pd.DataFrame, first: pd.DataFrame, second: pd.DataFrame) -> str:
    """Say which cells could be several ones, and what to do."""
    shown = unclear.sort_values(["row_x", "row_y"])
    row = shown["row_x"].iloc[0]
    candidates = second["name"].iloc[shown.loc[shown["row_x"] == row, "row_y"]]
    if len(candidates) == 1:
        row = shown["row_y"].iloc[0]
        ours = first["name"].iloc[shown.loc[shown["row_y"] == row, "row_x"]]
        example = f"the cells {listed(ours, 4)} of `adata` could all be {candidates.iloc[0]!r} of `counts`"
    else:
        example = f"{first['name'].iloc[row]!r} of `adata` could be any of {listed(candidates, 4)} of `counts`"
    for frame, where in ((first, "adata"), (second, "counts")):
        if frame["name"].duplicated().any():
            return (
                f"Expected one cell of `counts` for each cell of `adata`, found {unclear['row_x'].nunique()} cells "
                f"with several: {example}. The names of `{where}` are not unique: put the name of the sample before "
                f"each, as by `{where}.obs_names = 'sample1:' + {where}.obs_names` for each sample before joining them."
            )
    samples = [list(frame["sample"].unique()) for frame in (first, second)]
    rename = "`adata.obs_names = adata.obs['sample'].astype(str) + ':' + adata.obs_names`, if that column names them"
    remedy = (
        f"Put the samples into the names of the cells ({rename})"
        if samples[0] == [""]
        else f"Say which of its samples {listed(samples[0])} are which of {listed(samples[1])}, as by "
        f"`samples={{{samples[0][0]!r}: {samples[1][0]!r}}}`"
    )
    return (
        f"Expected one cell of `counts` for each cell of `adata`, found {unclear['row_x'].nunique()} cells with "
        f"several: {example}. {remedy}, or give the cells of both the same names."
    )
