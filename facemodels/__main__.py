import sys

from facemodels.cli.main import main

sys.exit(main())
