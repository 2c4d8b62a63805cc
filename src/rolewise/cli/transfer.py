"""`rolewise transfer`."""

from collections.abc import Sequence

from rolewise.cli.label import show_result
from rolewise.cli.parser import Command
from rolewise.options.labelling import TransferOptions

COMMAND = Command(
    "transfer",
    TransferOptions,
    """Transfer the labels of a data set to another model's tokens.

Each conversation is rendered with the other model's tokenizer and chat template, and each token
takes the role of most of its characters. Only the tokenizer is read, not the model.

  rolewise transfer --data labelled --model meta-llama/Llama-3.2-1B --output labelled-llama
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, transfer, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import notes, work
    from rolewise.jobs.transfer import transfer_labels

    result = work(transfer_labels, options)
    notes(result.info.notes)
    show_result(result)
