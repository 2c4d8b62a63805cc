"""`rolewise schema`."""

import json
from collections.abc import Sequence
from typing import Any

from rolewise.cli.parser import command_of
from rolewise.core.errors import InputError

DESCRIPTION = """Print the JSON Schema of a command's config file, for editors that check YAML.

  rolewise schema sft > sft.schema.json

Then name it at the top of a config file: # yaml-language-server: $schema=sft.schema.json
"""


def run(argv: Sequence[str]) -> None:
    """Print the schema of the command that the arguments name."""
    from rolewise.cli.main import COMMANDS

    if {"-h", "--help"} & set(argv):
        print(f"usage: rolewise schema COMMAND\n\n{DESCRIPTION}", end="")
        return
    if len(argv) != 1 or argv[0] not in COMMANDS:
        raise InputError(f"name one command, e.g. rolewise schema sft; choose from {', '.join(commands())}")
    print(json.dumps(schema_of(argv[0]), indent=1, ensure_ascii=False))


def commands() -> list[str]:
    """The commands that read a config file."""
    from rolewise.cli.main import COMMANDS

    return [*(name for name in COMMANDS if command_of(name) is not None), "experiment"]


def schema_of(command: str) -> dict[str, Any]:
    """Return the JSON Schema of a command's config file.

    Raises:
        InputError: if the command reads no config file.
    """
    if command == "experiment":
        from rolewise.experiment_runner.schema import experiment_schema

        return experiment_schema()
    found = command_of(command)
    if found is None:
        raise InputError(f"rolewise {command} reads no config file")
    return found.table().schema()
