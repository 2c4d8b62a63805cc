"""What the experiments share as commands."""

import sys
from collections.abc import Callable
from pathlib import Path

from rolewise.cli.console import quieten_libraries
from rolewise.core.errors import RolewiseError


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; what the user can mend ends it with one line on stderr and exit code 2."""
    quieten_libraries()
    try:
        main()
    except RolewiseError as error:
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
