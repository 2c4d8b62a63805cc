"""`rolewise transfer`."""

from collections.abc import Sequence

from rolewise.cli.label import show_result
from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import TransferOptions

DESCRIPTION = """Carry the labels of a data set over to another model's tokens.

Each conversation is rendered with the other model's tokenizer and chat template, and a token
takes the role that most of its characters have. Only the tokenizer is read, not the model.

  rolewise transfer --data labelled --model meta-llama/Llama-3.2-1B --output labelled-llama
"""


def run(argv: Sequence[str]) -> None:
    """Parse, transfer, print."""
    options, _ = parse(build_parser("rolewise transfer", DESCRIPTION, TransferOptions), TransferOptions, argv)

    from rolewise.cli.console import note, progress, quieten_libraries
    from rolewise.jobs.transfer import transfer_labels

    quieten_libraries()
    with progress() as bars:
        result = transfer_labels(options, bars)
    for text in result.info.notes:
        note(f"note: {text}")
    show_result(result)
