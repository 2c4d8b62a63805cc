"""`rolewise search`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.answers import SearchOptions

COMMAND = Command(
    "search",
    SearchOptions,
    """Search a tree of reasoning steps for each question (RFTT).

A model without functional tokens is prompted for each kind of step; a model with them
(`rolewise warmup`) chooses its steps itself. Many trees are searched at once. After an
interruption or a kill, rerun the command to resume.

  rolewise search --model Qwen/Qwen3-0.6B --data gsm8k.jsonl --limit 100 --output searched
  rolewise view searched/trees.jsonl
  rolewise warmup --model Qwen/Qwen3-0.6B --trees searched/trees.jsonl --output warm
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, search, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import note_if_finished, notes, out, show, work
    from rolewise.jobs.search import search_trees, summary_table
    from rolewise.reporting.content import REPORT_FILE
    from rolewise.search.tree import TREES_FILE

    result = work(search_trees, options)
    show(summary_table(result.summary))
    notes(result.notes)
    note_if_finished(result, "searched with these settings and questions")
    out.print(f"trees:  {result.path / TREES_FILE}", soft_wrap=True)
    out.print(f"report: {result.path / REPORT_FILE}", soft_wrap=True)
