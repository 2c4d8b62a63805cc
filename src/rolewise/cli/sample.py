"""`rolewise sample`."""

from collections.abc import Sequence

from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.sample_options import SampleOptions

DESCRIPTION = """Let a model answer the questions of conversations, and keep the right answers (RSFT).

Each conversation is asked up to its last assistant turn, which is the reference. Answers that
agree with it are written as conversations, for `rolewise sft` or `rolewise label`. A run that
was stopped goes on where it was when the same command is given again.

  rolewise sample --model Qwen/Qwen3-0.6B --data conversations.jsonl --samples 8 --output sampled
  rolewise sft --model Qwen/Qwen3-0.6B --data sampled/conversations.jsonl --weighting none --output tuned
"""


def run(argv: Sequence[str]) -> None:
    """Parse, sample, print."""
    options, _ = parse(build_parser("rolewise sample", DESCRIPTION, SampleOptions), SampleOptions, argv)

    from rolewise.cli.console import note, out, progress, quieten_libraries, show
    from rolewise.jobs.sample import sample, summary_table

    quieten_libraries()
    with progress() as bars:
        result = sample(options, bars)
    for text in result.notes:
        note(f"note: {text}")
    show(summary_table(result.summary))
    if not result.summary.kept:
        note("note: no answer was right, so there is nothing to train on; take more samples or a stronger model")
    if result.was_finished:
        note(f"{result.path}: was sampled already, with these settings and data; nothing was done")
    out.print(f"conversations: {result.conversations}", soft_wrap=True)
