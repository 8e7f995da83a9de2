"""What tells simulated data apart, and which cells are near each other."""

import hashlib

import numpy as np


def checksum(adata):
    digest = hashlib.sha256()
    for layer in ("spliced", "unspliced"):
        digest.update(adata.layers[layer].toarray().tobytes())
    for array in (
        *(adata.layers[f"true_{name}"] for name in ("spliced", "unspliced", "velocity")),
        *(adata.obsm[key] for key in ("X_umap", "X_umap3d", "true_fate_probabilities")),
        *(adata.varm[key] for key in ("true_on", "true_off")),
        *(adata.obs[key] for key in ("true_time", "true_depth")),
        *(adata.var[key] for key in ("true_alpha", "true_beta", "true_gamma")),
    ):
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())  # the same with any vector instructions
    for column in (*(adata.obs[key] for key in ("clusters", "lineage", "true_fate")), adata.var["program"]):
        digest.update(column.cat.codes.to_numpy().tobytes() + "".join(column.cat.categories).encode())
    digest.update(repr(adata.uns).encode())
    return digest.hexdigest()[:16]


def nearest(points, k):
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    return np.argsort(distances, axis=1)[:, : k + 1]
