"""Pictures, drawn with matplotlib from what is stored in an AnnData object; drawing never changes the object.

The names are listed in ``__init__.pyi`` and loaded when first used: kernels and fits, which can draw themselves, are
imported without them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
