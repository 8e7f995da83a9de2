"""Flow between clusters over experimental time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxvelo import pl
from jaxvelo.kernels._kernel import KernelExpression


def plot_single_flow(
    kernel: KernelExpression,
    cluster: str,
    cluster_key: str,
    time_key: str,
    clusters: Sequence[Any] | None,
    time_points: Sequence[float] | None,
    **kwargs: Any,
) -> Any:
    """Plot the flow out of a cluster; see :meth:`KernelExpression.plot_single_flow`."""
    matrix = kernel.require_transitions()
    return pl.single_flow(kernel.adata, matrix, cluster, cluster_key, time_key, clusters, time_points, **kwargs)
