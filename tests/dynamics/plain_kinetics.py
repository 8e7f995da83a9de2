"""Slow NumPy versions of what is computed gene by gene and group by group of a fit, cell by cell, in float64."""

import math

import numpy as np
from scipy.stats import norm

OFF, ON, EMPTY, STEADY = range(4)


def solution(t, u0, s0, alpha, beta, gamma):
    u = u0 * math.exp(-beta * t) + alpha / beta * (1 - math.exp(-beta * t))
    s = s0 * math.exp(-gamma * t) + alpha / gamma * (1 - math.exp(-gamma * t))
    return u, s + (alpha - u0 * beta) / (gamma - beta) * (math.exp(-gamma * t) - math.exp(-beta * t))


class Gene:
    """One gene; unspliced counts are those of the model."""

    def __init__(self, u, s, alpha, beta, gamma, switch, scaling):
        self.u, self.s = u / scaling, s
        self.alpha, self.beta, self.gamma, self.switch, self.scaling = alpha, beta, gamma, switch, scaling
        self.switched = solution(switch, 0, 0, alpha, beta, gamma)

    def place(self, state, t):
        if state == OFF:
            return solution(t, *self.switched, 0, self.beta, self.gamma)
        if state == ON:
            return solution(t, 0, 0, self.alpha, self.beta, self.gamma)
        return (0, 0) if state == EMPTY else (self.alpha / self.beta, self.alpha / self.gamma)

    def inverted(self, u, s, u0, s0, alpha):
        """Time of a cell, or of one number less where it is nearer to the end than to the beginning."""
        if self.gamma >= self.beta:
            rate, x, x0, end = self.beta, u, u0, alpha / self.beta
        else:
            k, rate = self.beta / (self.gamma - self.beta), self.gamma
            x, x0, end = s - k * u, s0 - k * u0, alpha / self.gamma - k * alpha / self.beta
        return -math.log(min(max((x - end) / (x0 - end), 1e-6), 1 - 1e-6)) / rate

    def times(self):
        on = [
            min(max(self.inverted(u, s, 0, 0, self.alpha), 0), self.switch) for u, s in zip(self.u, self.s, strict=True)
        ]
        off = [self.inverted(u, s, *self.switched, 0) for u, s in zip(self.u, self.s, strict=True)]
        latest = max(t for t, s in zip(off, self.s, strict=True) if s > 0)
        return np.array(on), np.clip(off, 0, latest)

    def residuals(self, state, times, deviation):
        """Of unspliced and spliced, of all cells."""
        places = np.array([self.place(state, t) for t in times])
        return (self.u - places[:, 0]) / deviation[0] * self.scaling, (self.s - places[:, 1]) / deviation[1]

    def states(self, on, off, deviation, weights, states):
        squared = [sum(r**2 for r in self.residuals(x, off if x == OFF else on, deviation)) for x in states]
        return np.argmin([weights @ x for x in squared], axis=0)


def without_gaps(on, off, is_on):
    on, off = on.copy(), off.copy()
    parts = [times for times in (np.sort(on[is_on]), np.sort(off[~is_on])) if len(times)]
    longest = 3 * np.percentile(np.concatenate([np.diff(times, prepend=0) for times in parts]), 99.5)
    for times, here in ((on, is_on), (off, ~is_on)):
        before = times[here].copy()
        after = before.copy()
        last = 0
        for t in np.sort(before):
            if t - last > longest:
                after[before >= t] -= t - last
            last = t
        times[here] = after
    return on, off


def signed_variance(residuals, counted):
    squared = residuals[0] ** 2 + residuals[1] ** 2
    return np.var((np.sign(residuals[1]) * np.sqrt(squared))[counted])


def group_likelihoods(rates, on, off, u, s, deviation, weights, groups):
    """For each group, the likelihoods of the genes."""
    n_genes = u.shape[1]
    variance, sums, n = np.empty(n_genes), np.empty((len(groups), n_genes)), np.empty((len(groups), n_genes))
    for i in range(n_genes):
        gene = Gene(u[:, i], s[:, i], *rates[i])
        state = gene.states(on[:, i], off[:, i], deviation[:, i], weights, range(4))
        of_branch = [gene.residuals(x, t[:, i], deviation[:, i]) for x, t in ((OFF, off), (ON, on))]
        residuals = [np.where((state == ON) | (state == EMPTY), of_branch[1][k], of_branch[0][k]) for k in range(2)]
        counted = (u[:, i] > u[:, i].max() / 5) & (s[:, i] > s[:, i].max() / 5)
        variance[i] = signed_variance(residuals, counted)
        for c, group in enumerate(groups):
            used = counted & group
            sums[c, i] = np.sum(residuals[0][used] ** 2 + residuals[1][used] ** 2)
            n[c, i] = max(used.sum() - 0.01 * group.sum(), 2)
    likelihoods = np.zeros_like(sums)
    for c in range(len(groups)):
        for i in range(n_genes):
            total = sums[c].max() if n[c, i] < n[c].max() / 5 else sums[c, i]
            if total > 0:
                likelihoods[c, i] = math.exp(-total / n[c, i] / variance[i] / 2) / math.sqrt(2 * math.pi * variance[i])
    return likelihoods


def kinetic_p_values(u, s, rates, weights, groups):
    """P-values of the groups, of one gene."""
    gene = Gene(u, s, *rates)
    on, off = gene.times()
    both = (u > 0) & (s > 0)
    typical = both & (u <= np.percentile(u[both], 99)) & (s <= np.percentile(s[both], 99))

    def of_curve(used):
        deviation = np.std(u[used]), np.std(s[used])
        t_on, t_off = without_gaps(on, off, gene.states(on, off, deviation, weights, (OFF, ON)) == ON)
        state = gene.states(t_on, t_off, deviation, weights, range(4))
        at_off, at_on = gene.residuals(OFF, t_off, deviation), gene.residuals(ON, t_on, deviation)
        at_switch = gene.residuals(OFF, np.zeros_like(on), deviation)
        empty = gene.residuals(EMPTY, on, deviation)
        residuals = [np.choose(state, [at_off[k], at_on[k], empty[k], at_switch[k]]) for k in range(2)]
        outside = (np.minimum(at_off[0], at_on[0]) > 1e-6) | (np.maximum(at_off[0], at_on[0]) < -1e-6)
        large = used & (u > u[used].max() / 3) & (s > s[used].max() / 3)
        return residuals, outside, large, deviation

    residuals, _, large, _ = of_curve(typical)
    variance = signed_variance(residuals, large)
    residuals, outside, large, deviation = of_curve(both)
    to_curve = residuals[0] ** 2 + residuals[1] ** 2

    def tested(counted):
        mean = [to_curve[counted & c].mean() if (counted & c).sum() >= 10 else 0 for c in groups]
        farthest = int(np.argmax(mean))
        x, y = gene.u[both & groups[farthest]], gene.s[both & groups[farthest]]
        # The direction along which the cells extend most.
        vector = np.linalg.eigh(np.array([[y @ y, x @ y], [x @ y, x @ x]]))[1][:, 1]
        slope = vector[1] / vector[0]
        foot = (gene.s + slope * gene.u) / (1 + slope**2)
        to_line = ((slope * foot - gene.u) / deviation[0] * gene.scaling) ** 2 + ((foot - gene.s) / deviation[1]) ** 2
        p_values = []
        for c in groups:
            used, n = counted & c, (counted & c).sum()
            z = (to_curve[used].sum() / 2 - to_line[used].sum()) / (variance * math.sqrt(8 * n)) if n else np.nan
            p_values.append(1.0 if c.sum() < 10 else norm.sf(z))
        return np.array(p_values), farthest

    p_values, farthest = tested(both & outside)
    return tested(large)[0] if p_values[farthest] > 0.01 else p_values
