"""Cells that the scale of a gene is taken from."""

import numpy as np
from jaxtyping import Bool, Float


def typical_cells(
    unspliced: Float[np.ndarray, " cells"], spliced: Float[np.ndarray, " cells"]
) -> Bool[np.ndarray, " cells"]:
    """Cells with both kinds of counts of a gene, without the top percent of either."""
    both = (unspliced > 0) & (spliced > 0)
    if not both.any():
        return both
    # The largest that is kept; percentiles as NumPy's, which are not below it and below the next.
    last = int(0.99 * (both.sum() - 1))
    limit_u, limit_s = (np.partition(x[both], last)[last] for x in (unspliced, spliced))
    return both & (unspliced <= limit_u) & (spliced <= limit_s)
