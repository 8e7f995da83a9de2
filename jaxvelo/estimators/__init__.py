"""From a kernel to macrostates, terminal states, fates and the genes behind them, with CellRank's names."""

from jaxvelo.estimators._gpcca import GPCCA
from jaxvelo.estimators._lineage import Lineage

__all__ = ["GPCCA", "Lineage"]
