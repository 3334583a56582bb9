"""`python -m ossature` is the command `ossature`."""

import sys

from ossature.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
