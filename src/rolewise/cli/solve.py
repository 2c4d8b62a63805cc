"""`rolewise solve`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.core.limits import printable
from rolewise.options.answers import SolveOptions

COMMAND = Command(
    "solve",
    SolveOptions,
    """Answer questions by tree search and voting (RFTT's inference).

Each rollout votes for the answer at the end of its path. With references, accuracy is shown over
the number of rollouts. After an interruption, rerun the command to resume.

  rolewise solve --model reinforced --data questions.jsonl --rollouts 32 --output solved
  rolewise solve --model reinforced --question "What is 17 * 24?" --output solved-one
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, solve, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import note_if_finished, notes, out, show, work
    from rolewise.jobs.search import summary_table
    from rolewise.jobs.solve import ANSWERS_FILE, curve_table, solve
    from rolewise.reporting.content import REPORT_FILE

    result = work(solve, options)
    show(summary_table(result.summary, note=""))
    if result.curve:
        show(curve_table(result.curve))
    notes(result.notes)
    note_if_finished(result, "solved with these settings and questions")
    if options.question is not None:
        [answer] = result.answers
        said = "no answer" if answer["answer"] is None else f"{answer['answer']} ({answer['share']:.0%} of the votes)"
        out.print(f"answer:  {printable(said)}", soft_wrap=True, markup=False, highlight=False)
    out.print(f"answers: {result.path / ANSWERS_FILE}", soft_wrap=True)
    out.print(f"report:  {result.path / REPORT_FILE}", soft_wrap=True)
