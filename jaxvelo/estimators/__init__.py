"""From a kernel to macrostates, terminal states, fates and the genes behind them, with CellRank's names."""

__all__: list[str] = []
