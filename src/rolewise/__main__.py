"""`python -m rolewise`, which is also what `torchrun -m rolewise` starts."""

import sys

from rolewise.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
