"""`rolewise label`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rolewise.cli.parser import Command
from rolewise.options.labelling import LabelOptions

if TYPE_CHECKING:
    from rolewise.jobs.label_result import LabelResult

COMMAND = Command(
    "label",
    LabelOptions,
    """Label the tokens of conversations.

Contrast scores each answer after its own history and after those of other conversations: tokens
that the right history makes more probable depend on the input (reasoning), the others do not
(boilerplate: format, stock phrases). The result is a Hugging Face data set with a role, losses and a
score for every token, a report, and a verdict. Also available: shad, which tunes the model on
shuffled answers first, as published, and its baselines: regex, rho (tokens whose loss falls when the
model is tuned on a little of the data) and reward (scores from a model tuned by DPO). After an
interruption, rerun the command to resume.

  rolewise label --model Qwen/Qwen3-0.6B --data conversations.jsonl --output labelled
  rolewise label --model Qwen/Qwen3-0.6B --data tools.jsonl=0.7,agents/*.parquet=0.3 \\
      --general owner/chat:train --general-share 0.2 --output labelled
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, label, print."""
    options = COMMAND.read(argv)

    # Heavy imports wait until the options are known to be valid.
    from rolewise.cli.console import note, notes, progress, quieten_libraries, show
    from rolewise.data.readers import describe_rejects
    from rolewise.jobs.label import label, plan_labelling, plan_table

    quieten_libraries()
    plan = plan_labelling(options)
    notes(plan.data.notes)
    for line in describe_rejects(plan.rejected):
        note(line)
    if plan.shortage is not None:
        note(f"note: {plan.shortage}")
    if options.plan:
        show(plan_table(options, plan))
        return
    with progress() as bars:
        result = label(options, bars, plan)
    for text in result.info.notes:
        if text not in plan.data.notes:
            note(f"warning: {text}")
    show_result(result)


def show_result(result: "LabelResult") -> None:
    """Print the results of a labelling and its location."""
    from rolewise.cli.console import note_if_finished, out, show
    from rolewise.reporting.views import check_tables, roles_table

    show(roles_table(result.info.counts))
    for table in check_tables(result.checks):
        show(table)
    note_if_finished(result, "labelled with these settings and data")
    if result.checks.verdict is not None:
        out.print(f"verdict: {result.checks.verdict.line}", soft_wrap=True)
    out.print(f"labelled data set: {result.path}\nreport:            {result.path / 'report.html'}", soft_wrap=True)
