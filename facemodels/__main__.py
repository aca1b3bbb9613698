"""`python -m facemodels COMMAND`: the same as `facemodels COMMAND`."""

import sys

from facemodels.cli.main import main

sys.exit(main())
