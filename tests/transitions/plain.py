"""Every transition matrix once more, slowly: plain NumPy in float64, dense, one cell at a time.

Graphs are dense: ``pattern[i, j]`` tells whether ``j`` is a neighbour of ``i``. All functions return dense arrays.
"""

import numpy as np


def dense(graph):
    """Stored entries of a sparse matrix (explicit zeros are stored) and its values."""
    graph = graph.tocoo()
    pattern = np.zeros(graph.shape, dtype=bool)
    pattern[graph.row, graph.col] = True
    return pattern, graph.toarray().astype(float)


def uniform(pattern):
    """Equal probabilities of all neighbours; cells without neighbours stay."""
    result = pattern + np.diag(~pattern.any(axis=1))
    return result / result.sum(axis=1, keepdims=True)


def normalize(matrix, fallback):
    """Divide rows by their sums, where these are positive."""
    result = fallback.copy()
    for i, row in enumerate(matrix):
        if row.sum() > 0:
            result[i] = row / row.sum()
    return result


def similarity_logits(similarity, v, displacements, weights):
    """Logits of one velocity (which may be complex) against many displacements, and where they are defined."""
    d = displacements
    if similarity == "correlation":
        d = d - (d @ weights)[:, None] / weights.sum() if weights.sum() else d
        v = v - v @ weights / weights.sum() if weights.sum() else v
    logits = d @ (weights * v)
    if similarity == "dot_product":
        return logits, np.full(len(d), True)
    v_norm, d_norm = np.sqrt(weights @ v**2), np.sqrt(d**2 @ weights)
    # What centring leaves of a constant is rounding.
    has_direction = v_norm.real > 1e-12 * np.sqrt(weights.sum())
    defined = (d_norm > 1e-12 * np.sqrt(weights.sum())) & has_direction
    return np.where(defined, logits / np.where(defined, v_norm * d_norm, 1), 0), defined


def softmax(logits, defined, scale):
    """Probabilities of the defined logits; ``None`` without any."""
    if not defined.any():
        return None
    scaled = scale * logits
    weight = np.where(defined, np.exp(scaled - scaled[defined].real.max()), 0)
    return weight / weight.sum()


def all_logits(pattern, x, v, similarity, weights=None, backward_mode=None):
    """Deterministic logits, and where they are defined."""
    weights = np.ones(x.shape[1]) if weights is None else weights
    v = -v if backward_mode == "negate" else v
    logits, defined = np.zeros(pattern.shape), np.zeros(pattern.shape, dtype=bool)
    for i, row in enumerate(pattern):
        for j in np.flatnonzero(row):
            velocity, displacement = (v[j], x[i] - x[j]) if backward_mode == "transpose" else (v[i], x[j] - x[i])
            one, is_defined = similarity_logits(similarity, velocity, displacement[None], weights)
            logits[i, j], defined[i, j] = one[0], is_defined[0]
    return logits, defined


def automatic_scale(logits):
    """One over the median magnitude of the logits that are not zero."""
    magnitudes = np.abs(logits[logits != 0])
    return 1 / np.median(magnitudes) if len(magnitudes) else 1.0


def deterministic(pattern, x, v, similarity, scale=None, weights=None, backward_mode=None):
    """Probabilities, logits and scale of the deterministic model."""
    logits, defined = all_logits(pattern, x, v, similarity, weights, backward_mode)
    scale = automatic_scale(logits) if scale is None else scale
    result = uniform(pattern)
    for i in range(len(x)):
        p = softmax(logits[i], defined[i], scale)
        result[i] = result[i] if p is None else p
    return result, logits, scale


def moments(values, v):
    """Means and variances over each cell and its neighbours of positive weight, with scVelo's float32 weights."""
    mean, variance = np.zeros_like(v), np.zeros_like(v)
    for i, row in enumerate(values):
        members = v[sorted({i, *np.flatnonzero(row > 0)})]
        weight = float(np.float32(1 / len(members)))
        mean[i] = weight * members.sum(axis=0)
        variance[i] = weight * (members**2).sum(axis=0) - mean[i] ** 2
    return mean, variance


def second_derivatives(function, v, n_points=8):
    """Second derivative of ``function`` by each entry of ``v``: Cauchy's integral formula on a small circle."""
    radius = max(0.025 * np.std(v), 0.0025 * np.sqrt(np.mean(v**2)))
    circle = np.exp(2j * np.pi * np.arange(n_points) / n_points)
    columns = []
    for basis in np.eye(len(v)):
        values = np.array([function(v + radius * z * basis) for z in circle])
        columns.append(2 * np.mean(values * circle[:, None] ** -2, axis=0).real / radius**2)
    return np.stack(columns, axis=1)


def stochastic(pattern, values, x, v, similarity, scale, weights=None, backward_mode=None):
    """Expected probabilities to second order in the velocity's variance."""
    weights = np.ones(x.shape[1]) if weights is None else weights
    mean, variance = moments(values, -v if backward_mode == "negate" else v)
    result = uniform(pattern)
    for i, row in enumerate(pattern):
        neighbors = np.flatnonzero(row)
        d = x[neighbors] - x[i]
        logits, defined = similarity_logits(similarity, mean[i], d, weights)
        p = softmax(logits, defined, scale)
        if p is None:
            continue

        def probabilities(v, d=d, defined=defined):
            return softmax(similarity_logits(similarity, v, d, weights)[0], defined, scale)

        if np.any(mean[i]):
            p = np.clip(p + 0.5 * second_derivatives(probabilities, mean[i]) @ variance[i], 0, 1)
        if p.sum() > 0:
            result[i] = 0
            result[i, neighbors] = p / p.sum()
    return result


def monte_carlo(pattern, values, x, v, similarity, scale, noise, weights=None, backward_mode=None):
    """Mean probabilities over sampled velocities."""
    weights = np.ones(x.shape[1]) if weights is None else weights
    mean, variance = moments(values, -v if backward_mode == "negate" else v)
    result, fallback = np.zeros(pattern.shape), uniform(pattern)
    for i, row in enumerate(pattern):
        neighbors = np.flatnonzero(row)
        if not len(neighbors):
            result[i] = fallback[i]
            continue
        for z in noise:
            sample = mean[i] + np.sqrt(np.maximum(variance[i], 0)) * z
            p = softmax(*similarity_logits(similarity, sample, x[neighbors] - x[i], weights), scale)
            if p is None:
                result[i] += fallback[i] / len(noise)
            else:
                result[i, neighbors] += p / len(noise)
    return result


def connectivity(pattern, values, density_normalize):
    """Normalised connectivities."""
    weights = values
    if density_normalize:
        density = values.sum(axis=0)
        weights = values / np.where(density > 0, density, 1)
    return normalize(weights, uniform(pattern))
