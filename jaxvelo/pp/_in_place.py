"""Changing an AnnData in place."""

from anndata import AnnData


def require_in_memory(adata: AnnData) -> None:
    """Raise a ValueError if the object is backed by a file."""
    if adata.isbacked:
        raise ValueError(
            "Expected `adata` in memory, found it backed by the file it was read from. "
            "Load it with `adata = adata.to_memory()` first, or, if it does not fit, open the file as "
            "`jaxvelo.read(path, backed=True)`."
        )


def replace_content(adata: AnnData, result: AnnData) -> None:
    """Turn ``adata`` into ``result``, in one step after all checks.

    AnnData has no public way to drop genes of an object in place; initialising the object anew from another AnnData
    is public, and makes an independent object of a view.
    """
    AnnData.__init__(adata, result)
