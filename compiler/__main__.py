"""``python -m graphpress`` is the same as ``optimize``."""

import sys

from graphpress.cli.main import main

sys.exit(main())
