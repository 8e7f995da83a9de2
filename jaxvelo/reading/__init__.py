"""Reading the files of counts that people have, whichever tool they come from."""

from jaxvelo.reading._layer_names import find_counts
from jaxvelo.reading._read import read

__all__ = ["find_counts", "read"]
