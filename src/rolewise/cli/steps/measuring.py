"""Not a command: `rolewise experiment` starts `python -m rolewise.cli.steps.measuring TASK.json` for each model."""

import json
import sys
from pathlib import Path

from rolewise.cli.console import note, progress, quieten_libraries
from rolewise.core.files import write_json
from rolewise.experiment_runner.measuring import measure


def main() -> None:
    """Take the measurements of the task, and write failures and their reasons to the file that it names."""
    quieten_libraries()
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with progress() as bars:
        failures = measure(task, bars)
    for place, reason in failures.items():
        note(f"{place}: {reason}")
    write_json(task["failed"], failures)


if __name__ == "__main__":
    main()
