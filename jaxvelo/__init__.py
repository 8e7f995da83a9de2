"""RNA velocity to cell-cell transition matrices and fates, in JAX.

The public names are listed in ``__init__.pyi``, for programs that check types too, and loaded when first used, so that
``import jaxvelo`` is quick and the pure packages (:mod:`jaxvelo.graph`, :mod:`jaxvelo.transitions`,
:mod:`jaxvelo.dynamics`, :mod:`jaxvelo.markov`, :mod:`jaxvelo.trends`, :mod:`jaxvelo.fit`) need no AnnData.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
