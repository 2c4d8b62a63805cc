"""StableToolBench (arXiv 2403.07714): queries that the model solves with API calls, judged by a model.

Untested on real answers: neither the cache nor a judge was available. `chain` and `judge` say which rules they follow.

StableToolBench's cache and documentation (hub data set `stabletoolbench/Cache`, unpacked) are expected in
`eval_stabletoolbench/tool_response_cache` and `eval_stabletoolbench/tools` in the data folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.engines.chat import Chat
from rolewise.evaluation.accuracy import Score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import find_file
from rolewise.evaluation.suite import Play, Suite, SuiteSettings, chosen_parts
from rolewise.evaluation.suites.stable_toolbench.apis import Api, ApiBackend
from rolewise.evaluation.suites.stable_toolbench.chain import run_chain
from rolewise.evaluation.suites.stable_toolbench.files import COMMIT, DATA_FILES, FOLDER, read_queries, write_answers
from rolewise.evaluation.suites.stable_toolbench.judge import JUDGE_OPTIONS, VOTES, chats_of, judge_chain, pass_rates

__all__ = ["DEFAULT_SUBSETS", "JUDGE_OPTIONS", "StableToolBench", "make"]

DEFAULT_SUBSETS = ("G2_category", "G3_instruction", "G1_tool")


def make(name: str, settings: SuiteSettings) -> Suite:
    """Create the suite; subsets follow a colon, as in `stable_toolbench:G1_category+G2_category`.

    Raises:
        InputError: for an unknown subset, or a judge that is missing, incomplete or has no key.
    """
    subsets = chosen_parts(name, "subset", DATA_FILES, DEFAULT_SUBSETS)
    judge, simulator = chats_of(settings.judge)
    return StableToolBench(settings, judge, simulator, tuple(dict.fromkeys(subsets)))


class StableToolBench(Suite):
    """StableToolBench with a judge and an optional simulator; see the module's docstring.

    Args:
        settings: settings with the data folder and the choice of native tools.
        judge: model that decides if an answer solves the query.
        simulator: model that simulates calls missing from the cache.
        subsets: names as in `solvable_queries/test_instruction`.
    """

    name = "stable_toolbench"
    title = "StableToolBench"
    untested = True

    def __init__(
        self,
        settings: SuiteSettings,
        judge: Chat,
        simulator: Chat | None = None,
        subsets: Sequence[str] = DEFAULT_SUBSETS,
    ) -> None:
        self._judge = judge
        self._simulator = simulator
        self._chats = [chat for chat in (judge, simulator) if chat is not None]
        self._native_tools = settings.native_tools
        self._files = {subset: find_file(DATA_FILES[subset], settings) for subset in subsets}
        folder = settings.data / FOLDER if settings.data is not None else None
        self._backend = ApiBackend(folder, simulator, settings.cache / "stable_toolbench" / "simulated")
        self._is_checked = False

    def examples(self) -> Sequence[Example]:
        return [
            Example(f"{subset}/{record['query_id']}", subset, record)
            for subset, file in self._files.items()
            for record in read_queries(file.path)
        ]

    def play(self, example: Example) -> Play:
        """See `Suite`. The judge and the simulator are checked before the first question."""
        if not self._is_checked:
            for chat in self._chats:
                chat.check()
            self._is_checked = True
        query = example.data["query"]
        apis = [Api.from_record(record) for record in example.data["api_list"]]
        chain = yield from run_chain(query, apis, self._backend, native_tools=self._native_tools)
        return judge_chain(self._judge, query, chain)

    def version(self) -> dict[str, Any]:
        return {
            "queries": {subset: file.identity for subset, file in self._files.items()},
            "commit": COMMIT,
            "judge": self._judge.describe(),
            "simulator": self._simulator.describe() if self._simulator else None,
            "votes": VOTES,
        }

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Return pass rates (SoPR): one per subset, and the mean of the subsets overall, as on the leaderboard."""
        return pass_rates(results)

    def write_official(self, results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:
        """Write answers in the form that `toolbench/tooleval/eval_pass_rate.py` reads (`--converted_answer_path`)."""
        write_answers(results, folder)

    def close(self) -> None:
        for chat in self._chats:
            chat.close()
