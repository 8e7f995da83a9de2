"""Genes along a time, by fate: penalised splines of all genes at once."""

from jaxvelo.trends._curves import Curve, evaluate_trends
from jaxvelo.trends._differences import difference_test
from jaxvelo.trends._penalized_fit import TrendFit, fit_trends

__all__ = ["Curve", "TrendFit", "difference_test", "evaluate_trends", "fit_trends"]
