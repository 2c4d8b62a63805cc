"""Not a command: what `rolewise experiment` starts between a fine-tuning and what goes on from it.

As `python -m rolewise.cli.merging TASK.yaml`.
"""

import sys
from pathlib import Path

import yaml

from rolewise.cli.console import note, quieten_libraries
from rolewise.core.errors import RolewiseError
from rolewise.experiment.merging import merge


def main() -> int:
    """Merge as the file says; 2, with one line, if that can't be."""
    quieten_libraries()
    options = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        merge(**options)
    except RolewiseError as error:
        note(f"rolewise merging: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
