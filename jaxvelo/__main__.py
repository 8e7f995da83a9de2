"""``python -m jaxvelo`` is the command line."""

import sys

from jaxvelo.cli import main

sys.exit(main())
