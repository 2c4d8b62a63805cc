"""Not a command: `rolewise experiment` starts this between a fine-tuning run and the runs that continue from it.

It is started as `python -m rolewise.cli.steps.merging TASK.yaml`.
"""

import sys
from pathlib import Path

import yaml

from rolewise.cli.console import note, quieten_libraries
from rolewise.core.errors import RolewiseError
from rolewise.experiment_runner.merging import merge


def main() -> int:
    """Merge as the file says; return 2 and print one line if that is impossible."""
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
