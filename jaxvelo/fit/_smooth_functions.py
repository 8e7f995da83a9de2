"""Smooth functions on a neighbour graph, for parameters that differ from cell to cell."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from jaxvelo.leading_eigenvectors import leading_eigenvectors


def smooth_functions(connectivities: sp.csr_matrix, n_functions: int) -> Float[np.ndarray, "cells functions"]:
    r"""The smoothest functions on a graph: a constant, and eigenvectors of its Laplacian.

    Eigenvectors of :math:`D^{-1} W` of the largest eigenvalues, with :math:`W` the symmetrised weights and :math:`D`
    their row sums (Belkin & Niyogi 2003), each of mean square one. Cells without neighbours get
    zeros, but for the constant.

    Parameters
    ----------
    connectivities
        Weights of the graph, shape ``(cells, cells)``.
    n_functions
        Number of functions, the constant included; fewer than cells.

    Returns
    -------
    numpy.ndarray
        Shape ``(cells, functions)``, the smoothest first. Of each, the value that is largest in magnitude is positive.

    Examples
    --------
    >>> line = sp.diags([1.0, 1.0], [-1, 1], (6, 6)).tocsr()
    >>> functions = jv.fit.smooth_functions(line, 2)
    >>> functions[:, 0].tolist(), int(np.count_nonzero(np.diff(functions[:, 1] > 0)))  # the second changes sign once
    ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 1)
    """
    weights = sp.csr_matrix((connectivities + connectivities.T) / 2, dtype=np.float64)
    degree = np.asarray(weights.sum(axis=1)).ravel()
    root = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    scaled = sp.diags_array(root) @ weights @ sp.diags_array(root)
    leading = leading_eigenvectors(sp.csr_matrix(scaled), n_functions, "real", symmetric=True)
    functions = leading.vectors * root[:, None]
    functions[:, 0] = 1
    functions /= np.sqrt(np.mean(functions**2, axis=0))
    return functions * np.sign(functions[np.argmax(np.abs(functions), axis=0), np.arange(n_functions)])
