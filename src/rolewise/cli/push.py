"""`rolewise push`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.labelling import PushOptions

COMMAND = Command(
    "push",
    PushOptions,
    """Push a labelled data set to the Hugging Face hub, with a card.

Everything in it becomes readable there, including the conversations. Log in first: hf auth login.

  rolewise push --data labelled --repo user/name --dry-run card
  rolewise push --data labelled --repo user/name --private
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, push, print the location."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import out, quieten_libraries
    from rolewise.jobs.push import push

    quieten_libraries()
    out.print(f"data set: {push(options)}", soft_wrap=True)
