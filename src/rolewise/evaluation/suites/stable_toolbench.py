"""StableToolBench (arXiv 2403.07714): queries that the model solves with API calls, judged by a model.

The loop is that of ToolBench's CoT@1 (`toolbench/inference/Algorithms/single_chain.py`): one chain of thoughts and
calls, ended by the function `Finish`. The system prompt says the same in our own words, so a model trained on
ToolBench's text sees another wording here. Untested on real answers: neither the cache nor a judge was available.

Options of the judge (`SuiteSettings.judge`):
    url, model: the judge, on a chat completions server; required.
    key: name of the environment variable with its key; omit it for a server that requires no key.
    simulator_model: model that answers calls missing from the cache; without it they get an error.
    simulator_url, simulator_key: its address and key. Default: the judge's.

StableToolBench's cache and documentation (hub data set `stabletoolbench/Cache`, unpacked) are expected in
`eval_stabletoolbench/tool_response_cache` and `eval_stabletoolbench/tools` in the data folder.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.engines.chat import Chat, chat_from_settings
from rolewise.evaluation.accuracy import Score, mean_scores, weighted_score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import DataFile, find_file, read_records
from rolewise.evaluation.suite import Play, Suite, SuiteSettings
from rolewise.evaluation.suites.toolbench_apis import Api, ApiBackend
from rolewise.evaluation.suites.toolbench_chain import Chain, run_chain
from rolewise.evaluation.suites.toolbench_files import write_converted_answers
from rolewise.evaluation.suites.toolbench_judge import VOTES, Judgement, judge_answer, unsolved

_COMMIT = "69d3145a756b52fd80c5b936d755a648cd81462f"
_SOURCE = f"https://raw.githubusercontent.com/zhichengg/StableToolBench/{_COMMIT}/solvable_queries/test_instruction"
_FOLDER = "eval_stabletoolbench"

DEFAULT_SUBSETS = ("G2_category", "G3_instruction", "G1_tool")
_DIGESTS = {
    "G1_category": (
        "123cb9073c8b6e6473df91c8a51170277087e1c263eba2eb6077170edbe849c3",
        "f158c34611fb17e560128d081010a2acf51e934618cd0b2097f8ad11c3b50498",
    ),
    "G1_instruction": (
        "500aa0105ed451538448f6ea04f10661536b013f3e1a293840fe401688160e7c",
        "87e63b8ee5569c778e418eb51ff47fcb6489fcdeb570f43b115a25830f4e6514",
    ),
    "G1_tool": (
        "05d0c180bbec9d060fd267cc79399bda05beddd0a6d0de68b5488926a9029a1a",
        "4f75138e0c4d0b134674dd7c945c941a17217d67db77092a71f440dfe44cf08f",
    ),
    "G2_category": (
        "71e18112f7940934f159d623b1c2b4740b1b4dc58a0b596c63b8151abbf8267e",
        "f1c3884754953125e86d7bc19060b91d9870058fe0b37e39747c116d4085cb34",
    ),
    "G2_instruction": (
        "82d569cd0fc8fc742a15a3011fb5cd6a8b11e0a5b344c884602347439f43cad7",
        "dc1979a3b7d46daf71babfd3f2facf85067ec774fe3852bddabd10980b6b931c",
    ),
    "G3_instruction": (
        "f923d1a9452646bd1a415b266117d90675d0f8fc04cf014db58d3cd78c25634f",
        "81d0ca3ac081fe3764f307e03c848a29d668d8491ea14d78e8a4b84316d91c09",
    ),
}
"""Subset → SHA-256 of the source's JSON list, and of the same records as JSON Lines."""

JUDGE_OPTIONS = ("url", "model", "key", "simulator_url", "simulator_model", "simulator_key")


def make(name: str, settings: SuiteSettings) -> Suite:
    """Create the suite; subsets follow a colon, as in `stable_toolbench:G1_category+G2_category`.

    Raises:
        InputError: for an unknown subset, or a judge that is missing, incomplete or has no key.
    """
    subsets = tuple(part for part in name.partition(":")[2].split("+") if part) or DEFAULT_SUBSETS
    unknown = [subset for subset in subsets if subset not in _DIGESTS]
    if unknown:
        raise InputError(f"stable_toolbench has no subset {unknown[0]!r}; choose from {', '.join(_DIGESTS)}")
    judge, simulator = _chats(settings.judge)
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
        self._native_tools = settings.native_tools
        self._files = {subset: find_file(_data_file(subset), settings) for subset in subsets}
        folder = settings.data / _FOLDER if settings.data is not None else None
        self._backend = ApiBackend(folder, simulator, settings.cache / "stable_toolbench" / "simulated")
        self._is_checked = False

    def examples(self) -> Sequence[Example]:
        """See `Suite`."""
        return [
            Example(f"{subset}/{record['query_id']}", subset, record)
            for subset, file in self._files.items()
            for record in _checked(read_records(file.path), file.path)
        ]

    def play(self, example: Example) -> Play:
        """See `Suite`. The judge and the simulator are checked before the first question."""
        self._check_chats()
        query = example.data["query"]
        apis = [Api.from_record(record) for record in example.data["api_list"]]
        chain = yield from run_chain(query, apis, self._backend, native_tools=self._native_tools)
        if chain.final_answer is None:
            judgement = unsolved(chain.end)
        else:
            judgement = judge_answer(self._judge, query, chain.final_answer, chain.steps)
        return _verdict(chain, judgement)

    def version(self) -> dict[str, Any]:
        """See `Suite`."""
        return {
            "queries": {subset: file.identity for subset, file in self._files.items()},
            "commit": _COMMIT,
            "judge": self._judge.describe(),
            "simulator": self._simulator.describe() if self._simulator else None,
            "votes": VOTES,
        }

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Return pass rates (SoPR): one per subset, and the mean of the subsets overall, as on the leaderboard."""
        by_subset = [score for score in mean_scores(results) if score.name != "overall"]
        parts = by_subset or mean_scores(results)
        overall = weighted_score("overall", [(1.0, part) for part in parts], note=_note(results))
        return [overall, *by_subset]

    def write_official(self, results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:
        """Write answers in the form that `toolbench/tooleval/eval_pass_rate.py` reads (`--converted_answer_path`)."""
        write_converted_answers(results, folder)

    def close(self) -> None:
        """See `Suite`."""
        self._judge.close()
        if self._simulator is not None:
            self._simulator.close()

    def _check_chats(self) -> None:
        if self._is_checked:
            return
        self._judge.check()
        if self._simulator is not None:
            self._simulator.check()
        self._is_checked = True


def _data_file(subset: str) -> DataFile:
    sha256, lines_sha256 = _DIGESTS[subset]
    return DataFile(
        name=f"{subset}.json",
        url=f"{_SOURCE}/{subset}.json",
        sha256=sha256,
        local=f"{_FOLDER}/test_instruction__{subset}.jsonl",
        local_sha256=lines_sha256,
    )


def _chats(options: Mapping[str, str]) -> tuple[Chat, Chat | None]:
    """Return the judge and the simulator of these options.

    Raises:
        InputError: for an unknown option, or a missing or incomplete judge.
    """
    unknown = [option for option in options if option not in JUDGE_OPTIONS]
    if unknown:
        raise InputError(f"the judge has no option {unknown[0]!r}; choose from {', '.join(JUDGE_OPTIONS)}")
    judge = chat_from_settings(options, "", "judge")
    if judge is None:
        raise InputError(
            "stable_toolbench needs a judge: --judge url=http://localhost:8000/v1,model=NAME (and key=VARIABLE, the "
            "environment variable with its key)"
        )
    of_simulator = {name: value for name, value in options.items() if name.startswith("simulator_")}
    if of_simulator and "simulator_url" not in options and "key" in options:
        of_simulator.setdefault("simulator_key", options["key"])
    simulator = chat_from_settings(of_simulator, "simulator_", "simulator", url=options.get("url"))
    return judge, simulator


def _checked(records: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    for number, record in enumerate(records, start=1):
        try:
            is_sound = isinstance(record["query"], str) and isinstance(record["query_id"], int | str)
            for api in record["api_list"]:
                Api.from_record(api).schema()
        except (KeyError, TypeError, AttributeError):
            is_sound = False
        if not is_sound:
            raise InputError(f"{path}: record {number} is not a ToolBench query (query, query_id, api_list); fix it")
    return records


def _verdict(chain: Chain, judgement: Judgement) -> Verdict:
    detail = {
        "final_answer": chain.final_answer,
        "steps": chain.steps,
        "answered_by": dict(chain.answered),
        "votes": list(judgement.votes),
        "unreadable_votes": judgement.unreadable,
    }
    if not judgement.votes:
        return Verdict(0.0, "the judge's replies can't be parsed", detail)
    return Verdict(judgement.score, judgement.reason, detail)


def _note(results: Sequence[tuple[Example, Verdict]]) -> str:
    """Return a note on the sources of the calls' answers, and on votes of the judge that could not be parsed."""
    answered: Counter[str] = Counter()
    unreadable = 0
    for _, verdict in results:
        answered.update(verdict.detail["answered_by"])
        unreadable += verdict.detail["unreadable_votes"]
    total = sum(answered.values())
    notes = ["mean of subsets"]
    if total:
        shares = ", ".join(f"{who} {count / total:.0%}" for who, count in answered.most_common())
        notes.append(f"{total} calls answered by {shares}")
    if unreadable:
        notes.append(f"{unreadable} of {VOTES * len(results)} votes of the judge unreadable")
    return "; ".join(notes)
