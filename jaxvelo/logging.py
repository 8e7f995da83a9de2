"""What to say about an installation when something is amiss.

Log lines themselves are turned up and down by ``jaxvelo.settings.verbosity``.
"""

import importlib.metadata
import platform
import sys
from typing import TextIO

import jax
import jax.numpy as jnp

import jaxvelo

__all__ = ["print_versions"]

# In the order of the way of the data; what is not installed is left out.
PACKAGES = (
    *("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "equinox", "optax", "jaxtyping"),
    *("numpy", "scipy", "pandas", "anndata", "h5py", "zarr", "loompy"),
    *(
        "scanpy",
        "scikit-learn",
        "faiss-cpu",
        "pynndescent",
        "umap-learn",
        "numba",
        "matplotlib",
        "pooch",
        "scvelo",
        "cellrank",
    ),
)


def print_versions(file: TextIO | None = None) -> None:
    """Print the versions of jaxvelo, of Python and of the packages that matter, and what JAX computes on.

    Nothing of this is imported but JAX: versions are those of the installed distributions.

    Parameters
    ----------
    file
        Where to write; standard output by default.

    Examples
    --------
    >>> jv.logging.print_versions()
    jaxvelo ...
    Python ...
    """
    versions = {"jaxvelo": jaxvelo.__version__, "Python": f"{platform.python_version()} ({platform.platform()})"}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions["JAX computes"] = _computes()
    width = max(map(len, versions))
    lines = [f"{name:<{width}}  {version}\n" for name, version in versions.items()]
    (sys.stdout if file is None else file).writelines(lines)


def _computes() -> str:
    """Say on which devices, and with which numbers; a broken installation of an accelerator is worth telling too."""
    precision = jnp.result_type(float).name
    try:
        devices = ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in jax.devices())
    except RuntimeError as error:
        return f"nowhere: {' '.join(str(error).split())}"
    return f"in {precision} on {devices}"
