"""Penalised splines gene by gene, in plain NumPy."""

import numpy as np
from scipy.interpolate import BSpline


def basis_of(x, n_knots, order=3, derivative=0):
    step = 1 / (n_knots - order)
    knots = step * np.arange(-order, n_knots + 1)
    splines = [BSpline.basis_element(knots[j : j + order + 2], extrapolate=False) for j in range(n_knots)]
    columns = [spline.derivative(derivative)(x) if derivative else spline(x) for spline in splines]
    return np.nan_to_num(np.stack(columns, axis=1))


def penalty_of(n_knots):
    differences = np.zeros((n_knots - 2, n_knots))
    for row in range(n_knots - 2):
        differences[row, row : row + 3] = 1, -2, 1
    return differences.T @ differences


def restricted_likelihood(y, basis, weights, n, penalty):
    """Up to a constant, with the scale at its best; from determinants of the matrices themselves."""
    gram = basis.T @ (weights[:, None] * basis)
    beta = np.linalg.solve(gram + penalty, basis.T @ (weights * y))
    deviance = weights @ (y - basis @ beta) ** 2 + beta @ penalty @ beta
    positive = np.linalg.eigvalsh(penalty)[2:]
    determinant = np.linalg.slogdet(gram + penalty)[1] - np.log(positive).sum()
    return -0.5 * ((n - 2) * np.log(deviance) + determinant)


def normal_trend(y, x, weights, ratio, n_knots=10):
    """Coefficients, covariance without the uncertainty of the smoothness, degrees of freedom and scale of one gene."""
    n = weights.sum() ** 2 / (weights**2).sum()
    w = weights * weights.sum() / (weights**2).sum()
    basis, penalty = basis_of(x, n_knots), penalty_of(n_knots)
    gram = basis.T @ (w[:, None] * basis)
    penalty = ratio * np.trace(gram) / np.trace(penalty) * penalty
    inverse = np.linalg.inv(gram + penalty)
    beta = inverse @ basis.T @ (w * y)
    residual = y - basis @ beta
    degrees = np.trace(inverse @ gram)
    scale = (w @ residual**2 + beta @ penalty @ beta) / (n - 2)
    meat = basis.T @ ((w * residual)[:, None] ** 2 * basis) * n / (n - degrees)
    return beta, inverse @ (meat + scale * penalty) @ inverse, degrees, scale


def count_trend(y, x, weights, size, ratio, dispersion, n_knots=10):
    """Coefficients of one gene's counts, from Newton's method with the last Gram matrix deciding the penalty."""
    w = weights * weights.sum() / (weights**2).sum()
    basis, penalty = basis_of(x, n_knots), penalty_of(n_knots)
    ends = np.zeros(n_knots)
    ends[[0, -1]] = -0.1, 0.1
    start = np.log((w @ y) / (w @ size))
    beta = np.zeros(n_knots)
    for _ in range(60):
        mean = size * np.exp(start + basis @ beta)
        working = w * mean / (1 + dispersion * mean)
        gram = basis.T @ (working[:, None] * basis)
        total = np.outer(ends, ends) + gram
        total += ratio * np.trace(total) / np.trace(penalty) * penalty
        beta = np.linalg.solve(total, gram @ beta + basis.T @ (w * (y - mean) / (1 + dispersion * mean)))
    return start + beta
