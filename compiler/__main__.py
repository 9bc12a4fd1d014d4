"""``python -m graphpress`` is the same as ``optimize``."""

import os
import sys
from pathlib import Path

if sys.path[0] == os.getcwd() != str(Path(__file__).parent.parent):
    del sys.path[0]  # which -m puts there: nothing is imported from the working directory that was not named

from graphpress.cli.main import main

sys.exit(main())
