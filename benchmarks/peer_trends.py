"""CellRank's GAMs of some genes in two processes, or pyGAM's curves, as JSON; runs in the peers' environment.

Usage: ``peer_trends.py FILE.h5ad N_GENES`` or ``peer_trends.py INPUTS.npz OUTPUTS.npy``
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time

import numpy as np


def fit_gene(adata, gene: str, lineages: list[str]) -> tuple[int, float]:
    """Fit curves and bands of one gene; give how many of them it was possible for, and the processor's time."""
    from cellrank.models import GAM

    fitted, start = 0, time.process_time()
    for lineage in lineages:
        try:
            model = GAM(adata).prepare(gene, lineage=lineage, time_key="time").fit()
            model.predict()
            model.confidence_interval()
        except Exception as error:  # such as a singular matrix
            print(f"{gene}, {lineage}: {type(error).__name__}", file=sys.stderr)
        else:
            fitted += 1
    return fitted, time.process_time() - start


def cellrank(file: str, n_genes: int) -> dict[str, object]:
    """Fit as CellRank does, which gives each process a part of the genes."""
    import anndata
    import joblib

    adata = anndata.read_h5ad(file)
    adata.obsm["lineages_fwd"] = adata.obsm["lineages_fwd"] / adata.obsm["lineages_fwd"].sum(axis=1, keepdims=True)
    lineages = list(adata.obs["term_states_fwd"].cat.categories)
    expressed = np.argsort(-np.asarray((adata.X > 0).sum(axis=0)).ravel())
    genes = adata.var_names[expressed[:: max(len(expressed) // n_genes, 1)][:n_genes]]
    start = time.perf_counter()
    done = joblib.Parallel(n_jobs=2)(joblib.delayed(fit_gene)(adata, gene, lineages) for gene in genes)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "cpu": sum(cpu for _, cpu in done),
        "curves": sum(fitted for fitted, _ in done),
        "version": importlib.metadata.version("cellrank"),
    }


def pygam(inputs: str, outputs: str) -> dict[str, object]:
    """Curves of pyGAM with given penalties."""
    from pygam import LinearGAM, s

    given = np.load(inputs)
    known = given["weight"] > 0  # pyGAM divides by weights
    x, values, weight, curves = given["x"][known, None], given["values"][known], given["weight"][known], []
    for gene, penalty in enumerate(given["penalty"]):
        model = LinearGAM(s(0, n_splines=int(given["n"]), lam=float(penalty), penalties="derivative"))
        model.fit(x, values[:, gene], weights=weight)
        curves.append(model.predict(given["grid"][:, None]))
    np.save(outputs, np.stack(curves))
    return {"version": importlib.metadata.version("pygam")}


if __name__ == "__main__":
    found = pygam(*sys.argv[1:]) if sys.argv[1].endswith(".npz") else cellrank(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(found))
