"""`rolewise solve`."""

from collections.abc import Sequence

from rolewise.cli.parser import build_parser, parse
from rolewise.core.limits import printable
from rolewise.jobs.search_options import SolveOptions

DESCRIPTION = """Answer questions by tree search and vote (RFTT's inference).

Each rollout has a vote for the answer that its path ends in. With references, accuracy is shown
over the number of rollouts. A run that was stopped goes on where it was when the same command is
given again.

  rolewise solve --model reinforced --data questions.jsonl --rollouts 32 --output solved
  rolewise solve --model reinforced --question "What is 17 * 24?" --output solved-one
"""


def run(argv: Sequence[str]) -> None:
    """Parse, solve, print."""
    options, _ = parse(build_parser("rolewise solve", DESCRIPTION, SolveOptions), SolveOptions, argv)

    from rolewise.cli.console import note, out, progress, quieten_libraries, show
    from rolewise.jobs.search import REPORT_FILE, summary_table
    from rolewise.jobs.solve import ANSWERS_FILE, curve_table, solve

    quieten_libraries()
    with progress() as bars:
        result = solve(options, bars)
    show(summary_table(result.summary, note=""))
    if result.curve:
        show(curve_table(result.curve))
    for line in result.notes:
        note(f"note: {line}")
    if result.was_finished:
        note(f"{result.path}: was solved already, with these settings and questions; nothing was done")
    if options.question is not None:
        [answer] = result.answers
        said = "no answer" if answer["answer"] is None else f"{answer['answer']} ({answer['share']:.0%} of the votes)"
        out.print(f"answer:  {printable(said)}", soft_wrap=True, markup=False, highlight=False)
    out.print(f"answers: {result.path / ANSWERS_FILE}", soft_wrap=True)
    out.print(f"report:  {result.path / REPORT_FILE}", soft_wrap=True)
