"""Objectives of a fit, built from the keys of an AnnData object; see :mod:`jaxvelo.fitting.objectives`."""

from jaxvelo.fitting.objectives import *  # noqa: F403
from jaxvelo.fitting.objectives import __all__ as __all__
