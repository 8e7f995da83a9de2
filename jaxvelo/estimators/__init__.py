"""From a kernel to macrostates, terminal states, fates and the genes behind them, with CellRank's names."""

from jaxvelo.estimators._fate_comparison import compare_fates
from jaxvelo.estimators._gpcca import GPCCA
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._lineage_drivers import lineage_drivers
from jaxvelo.estimators._lineage_priming import lineage_priming

__all__ = ["GPCCA", "Lineage", "compare_fates", "lineage_drivers", "lineage_priming"]
