"""The shortest way around: states in the order in which neighbours on a circle are alike."""

import numpy as np
from jaxtyping import Float, Int


def shortest_tour(distances: Float[np.ndarray, "places places"]) -> Int[np.ndarray, " places"]:
    r"""Order places so that the way from each to the next, and from the last back to the first, is as short as can be.

    By dynamic programming over sets of places (Bellman 1962; Held & Karp 1962): with :math:`C(S, j)` the shortest way
    from place 0 through all of the set S that ends in j, an element of it,

    .. math:: C(S, j) = \min_{i \in S \setminus j} C(S \setminus j, i) + d_{ij}, \qquad C(\{j\}, j) = d_{0j}.

    Parameters
    ----------
    distances
        Of the places from each other. Memory and time grow as :math:`2^n n` and :math:`2^n n^2`.

    Returns
    -------
    The order, which begins with place 0.
    """
    n = len(distances) - 1
    if n < 1:
        return np.arange(n + 1)
    inner = distances[1:, 1:]
    sets = np.arange(2**n)
    size = sum((sets >> j) & 1 for j in range(n))
    cost = np.full((2**n, n), np.inf)
    before = np.zeros((2**n, n), dtype=np.int8)
    cost[1 << np.arange(n), np.arange(n)] = distances[0, 1:]
    for k in range(2, n + 1):
        of_size = sets[size == k]
        for j in range(n):
            ending = of_size[(of_size >> j) & 1 == 1]
            ways = cost[ending ^ (1 << j)] + inner[:, j]
            before[ending, j] = ways.argmin(axis=1)
            cost[ending, j] = ways.min(axis=1)
    visited = 2**n - 1
    place = int((cost[visited] + distances[1:, 0]).argmin())
    order = []
    while visited:
        order.append(place + 1)
        visited, place = visited ^ (1 << place), int(before[visited, place])
    return np.array([0, *order[::-1]])
