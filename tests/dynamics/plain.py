"""Slow NumPy versions of what is computed from velocities and times, written from the formulas, in float64."""

import numpy as np


def rooted_times(times, root):
    rooted = np.empty_like(times)
    for gene in range(times.shape[1]):
        t = times[:, gene]
        after = [t[i] - t[root] for i in range(len(t)) if t[i] >= t[root]]
        for i in range(len(t)):
            rooted[i, gene] = t[i] - t[root] if t[i] >= t[root] else t[i] + max(after)
    return rooted


def shared_time(times, percentiles=(15, 20, 25, 30, 35)):
    times = times - times.min()
    even = np.linspace(0, 1, len(times))
    candidates = []
    for percentile in percentiles:
        t = np.array([np.percentile(row, percentile) for row in times])
        t = t / t.max() if t.max() > 0 else t
        candidates.append((np.sum((np.sort(t) - even) ** 2), len(candidates), t))
    total = sum(t for _, _, t in sorted(candidates)[:2])
    return total / total.max() if total.max() > 0 else total


def unit_range(x):
    x = x - x.min()
    return x / x.max() if x.max() > 0 else x


def latent_time(times, roots, ends=None):
    from_roots = []
    for root in roots:
        times = rooted_times(times, root)
        from_roots.append(shared_time(times))
    latent = unit_range(np.mean(from_roots, axis=0))
    if ends is None:
        return latent
    from_ends = []
    for end in ends:
        times = rooted_times(times, end)
        from_ends.append(1 - shared_time(times))
    return unit_range(latent + 0.2 * unit_range(np.mean(from_ends, axis=0)))


def correlation(a, b):
    """Pearson correlation, 0 where one of the two does not vary."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return a @ b / norm if norm > 0 else 0.0


def correlations(x, v, pattern):
    """Correlation of each velocity with the displacements to the cells of the pattern; dense."""
    result = np.zeros(pattern.shape)
    for i, j in zip(*np.nonzero(pattern), strict=True):
        result[i, j] = correlation(x[j] - x[i], v[i])
    return result


def coherence(pattern, v):
    length = np.array([np.linalg.norm(row - row.mean()) for row in v])
    mean = [np.mean([correlation(v[i], v[j]) for j in np.flatnonzero(row)]) if row.any() else 0.0
            for i, row in enumerate(pattern)]  # fmt: skip
    return length, np.array(mean)


def diffusion_pseudotime(weights, root, n_components=10):
    """Dense, of a connected graph."""
    density = weights.sum(axis=0)
    kernel = weights / np.outer(density, density)
    total = np.sqrt(kernel.sum(axis=0))
    values, vectors = np.linalg.eigh(kernel / np.outer(total, total))
    largest = np.argsort(-abs(values))[:n_components]
    squared = np.zeros(len(weights))
    for k in largest:
        factor = 1.0 if values[k] >= 0.9994 else values[k] / (1 - values[k])
        squared += (factor * (vectors[root, k] - vectors[:, k])) ** 2
    return np.sqrt(squared) / np.sqrt(squared).max()


def stationary(dense):
    """The stationary distribution of a chain that has one, by a linear system."""
    n = len(dense)
    system = np.concatenate([dense.T - np.eye(n), np.ones((1, n))])
    return np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
