"""`rolewise label`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import LabelOptions

if TYPE_CHECKING:
    from rolewise.jobs.label_result import LabelResult

DESCRIPTION = """Label the tokens of conversations.

SHAD tunes the model a little on conversations whose answers were shuffled. Tokens that this
makes easier to predict are boilerplate (format, stock phrases); the rest is reasoning. The
result is a Hugging Face data set with a role and both losses for every token, and a report.
Other methods are those that SHAD is compared with: regex, rho (tokens whose loss falls when the
model is tuned on a little of the data) and reward (by a model that was tuned by DPO).
A run that was stopped goes on where it was when the same command is given again.

  rolewise label --model Qwen/Qwen3-0.6B --data conversations.jsonl --output labelled
  rolewise label --model Qwen/Qwen3-0.6B --data tools.jsonl=0.7,agents/*.parquet=0.3 \\
      --general owner/chat:train --general-share 0.2 --output labelled
"""


def run(argv: Sequence[str]) -> None:
    """Parse, label, print."""
    options, _ = parse(build_parser("rolewise label", DESCRIPTION, LabelOptions), LabelOptions, argv)

    # Heavy imports wait until the options are known to be right.
    from rolewise.cli.console import note, progress, quieten_libraries, show
    from rolewise.data.readers import describe_rejects
    from rolewise.jobs.label import label, plan_labelling, plan_table

    quieten_libraries()
    plan = plan_labelling(options)
    for text in plan.data.notes:
        note(f"note: {text}")
    for line in describe_rejects(plan.rejected):
        note(line)
    asked = {"shad": options.min_pairs, "rho": options.min_references}.get(options.method, 0)
    if plan.measured is not None and (drawn := min(plan.measured.plan.examples, default=asked)) < asked:
        kind = plan.measured.plan.kind
        note(f"note: {drawn} {kind}, not the {asked} that are asked for: the data gives no more")
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
    """Print what a labelling found and where it lies."""
    from rolewise.cli.console import note, out, show
    from rolewise.reporting.views import checks_table, roles_table

    show(roles_table(result.info.counts))
    show(checks_table(result.format_check, result.truth_check))
    if result.was_finished:
        note(f"{result.path}: was labelled already, with these settings and data; nothing was done")
    out.print(f"labelled data set: {result.path}\nreport:            {result.path / 'report.html'}", soft_wrap=True)
