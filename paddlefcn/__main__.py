"""`python -m paddlefcn NAME`."""

import sys

from paddlefcn.commands import main

if __name__ == "__main__":
    sys.exit(main())
