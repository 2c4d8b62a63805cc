"""`rolewise sample`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.answers import SampleOptions

COMMAND = Command(
    "sample",
    SampleOptions,
    """Have a model answer the questions of conversations, and keep the right answers (RSFT).

The model is given each conversation up to its last assistant turn, which is the reference.
Answers that agree with it are written as conversations, for `rolewise sft` or `rolewise label`.
After an interruption, rerun the command to resume.

  rolewise sample --model Qwen/Qwen3-0.6B --data conversations.jsonl --samples 8 --output sampled
  rolewise sft --model Qwen/Qwen3-0.6B --data sampled/conversations.jsonl --weighting none --output tuned
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, sample, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import note, note_if_finished, notes, out, show, work
    from rolewise.jobs.sample import sample, summary_table

    result = work(sample, options)
    notes(result.notes)
    show(summary_table(result.summary))
    if not result.summary.kept:
        note("note: no answer is right, so there is nothing to train on; take more samples or a stronger model")
    note_if_finished(result, "sampled with these settings and data")
    out.print(f"conversations: {result.conversations}", soft_wrap=True)
