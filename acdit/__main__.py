"""`python -m acdit`, the same as the command `acdit`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
