"""Which genes of two data sets are the same, told by their names and identifiers."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import listed

# Columns in which Cell Ranger, scanpy, velocyto, kb-python, alevin-fry and CELLxGENE put identifiers and names.
_COLUMNS = (
    *("gene_ids", "gene_id", "Accession", "ensembl_id", "ensembl_gene_id", "ensembl", "feature_id"),
    *("gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "symbol", "Gene"),
)
_VERSION = r"^(ENS[A-Z]*\d{6,})\.\d+"


class GeneMatches(NamedTuple):
    """Genes that are the same in two data sets, in the order of the first."""

    ours: np.ndarray
    theirs: np.ndarray
    # What they were matched by, and those of the first that stand several times in one of them.
    label: str
    repeated: list[str]


def match_genes(ours: pd.DataFrame, theirs: pd.DataFrame) -> GeneMatches:
    """Find the genes of two data sets that are the same.

    By their names, or by whatever pair of columns of names or identifiers matches more of them; versions of Ensembl's
    identifiers do not count. A name that occurs several times in one of the data sets tells no gene and matches none.

    Parameters
    ----------
    ours, theirs
        Annotation of the genes.

    Raises
    ------
    ValueError
        If no gene matches.
    """
    best: tuple[int, str, str] | None = None
    labels = [_labels(frame) for frame in (ours, theirs)]
    for a, first in labels[0].items():
        for b, second in labels[1].items():
            number = len(_once(first).index.intersection(_once(second).index))
            if number and (best is None or number > best[0]):
                best = number, a, b
    if best is None:
        raise ValueError(
            f"Expected genes of `adata` in `counts`, found none. The genes of `adata` are named like "
            f"{listed(ours.index[:3])}, those of `counts` like {listed(theirs.index[:3])}. If one has symbols and the "
            f"other identifiers, put the other kind into a column of var, as `counts.var['gene_ids']`."
        )
    first, second = labels[0][best[1]], labels[1][best[2]]
    a, b = _once(first), _once(second)
    shared = a.index[a.index.isin(b.index)]
    repeated = first.index[first.index.isin(second.index) & ~first.index.isin(shared)]
    what = "names" if best[1:] == ("names", "names") else " and ".join(dict.fromkeys(best[1:]))
    return GeneMatches(a.loc[shared].to_numpy(), b.loc[shared].to_numpy(), what, list(repeated.unique()))


def _labels(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Rows by what the genes are called: by their names first, then by columns that name them."""
    found = {"names": pd.Series(frame.index.astype(str))}
    for column in _COLUMNS:
        if column in frame and frame[column].dtype.kind not in "biuf":
            found[column] = pd.Series(frame[column].astype(object).to_numpy())
    rows = {}
    for column, values in found.items():
        present = values[values.notna().to_numpy()].astype(str).str.replace(_VERSION, r"\1", regex=True)
        rows[column] = pd.Series(present.index.to_numpy(), index=pd.Index(present.to_numpy(), dtype=object))
    return rows


def _once(rows: pd.Series) -> pd.Series:
    return rows[~rows.index.duplicated(keep=False)]
