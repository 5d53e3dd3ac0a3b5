"""``python -m fastsim``."""

import sys

from fastsim.cli import main

sys.exit(main())
