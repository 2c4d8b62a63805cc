"""`rolewise eval`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.answers import EvalOptions

COMMAND = Command(
    "eval",
    EvalOptions,
    """Measure a model on benchmark suites.

Answers, verdicts and a summary with 95 % intervals are written to a directory. BFCL is scored by
its official checker, mathematics by math-verify. After an interruption, rerun the command to
resume.

  rolewise eval --model tuned --suite bfcl,api_bank,gsm8k --limit 100 --output scores
  rolewise eval --model tuned --suite bfcl --output scores --against scores-before
  rolewise eval --model Qwen/Qwen3-0.6B --server http://localhost:8000/v1 --suite gsm8k --output scores
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, evaluate, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import note_if_finished, notes, out, show, work
    from rolewise.core.options import split_list
    from rolewise.jobs.eval_comparison import check_comparable, comparison_notes, comparison_table
    from rolewise.jobs.eval_report import scores_table
    from rolewise.jobs.evaluate import evaluate, read_eval

    other = read_eval(options.against) if options.against else None
    if other is not None:
        check_comparable(other, split_list(options.suite))
    result = work(evaluate, options)
    notes(result.notes)
    for name, scores in result.scores.items():
        show(scores_table(result.titles[name], scores, untested=name in result.untested))
    if other is not None:
        notes(comparison_notes(other, result))
        show(comparison_table(other, result))
    note_if_finished(result, "evaluated with these settings")
    out.print(f"results: {result.path}\nreport:  {result.path / 'report.html'}", soft_wrap=True)
