from . import datasets as datasets
from . import dynamics as dynamics
from . import estimators as estimators
from . import fit as fit
from . import graph as graph
from . import kernels as kernels
from . import logging as logging
from . import markov as markov
from . import objectives as objectives
from . import pl as pl
from . import pp as pp
from . import tl as tl
from . import transitions as transitions
from . import trends as trends
from .configuration import settings as settings
from .reading import read as read

__version__: str
