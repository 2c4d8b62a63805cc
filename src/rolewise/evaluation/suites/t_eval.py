"""T-Eval (arXiv 2312.14033): six abilities of tool use, each tested separately.

English v2 of the hub's `lovesnowbest/T-Eval` at a pinned commit, scored by `t_eval_rules`. Plans and thoughts are
compared by the embeddings of `sentence-transformers/all-mpnet-base-v2`, from the hub or from `all-mpnet-base-v2` in the
data folder; if that model is unavailable, they are omitted and the summary says "partial". Untested on the real data,
whose SHA-256 was unavailable.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import MAX_FILE_BYTES, read_text
from rolewise.data.strict_json import read_json
from rolewise.evaluation.accuracy import Score, mean_score, weighted_score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sentence_embedding import SentenceEmbedding, Similarity
from rolewise.evaluation.sources import DataFile, find_file
from rolewise.evaluation.suite import Ask, Messages, Play, Suite, SuiteSettings
from rolewise.evaluation.suites import t_eval_rules as rules

_COMMIT = "af355ab2b62cdbae4262ac41c7529ffeae395012"
_HUB = f"https://huggingface.co/datasets/lovesnowbest/T-Eval/resolve/{_COMMIT}/data"

_FILES = {
    "instruct": "instruct_v2.json",
    "plan_json": "plan_json_v2.json",
    "plan_str": "plan_str_v2.json",
    "reason_str": "reason_str_v2.json",
    "retrieve_str": "retrieve_str_v2.json",
    "understand_str": "understand_str_v2.json",
    "rru_json": "reason_retrieve_understand_json_v2.json",
    "review_str": "review_str_v2.json",
}
PARTS = tuple(_FILES)

_ABILITIES = {
    "instruct": ("instruct_json", "instruct_string"),
    "plan": ("plan_json", "plan_str"),
    "reason": ("reason_str", "rru_json"),
    "retrieve": ("retrieve_str", "rru_json"),
    "understand": ("understand_str", "rru_json"),
    "review": ("review_str",),
}
"""Ability → categories whose means make up its score (`teval/utils/convert_results.py`)."""

_NEED_SIMILARITY = ("plan_json", "plan_str", "reason_str")
_ENCODER = "sentence-transformers/all-mpnet-base-v2"
_ENCODER_COMMIT = "9a3225965996d404b775526de6dbfe85d3368642"
_MAX_NEW_TOKENS = 512  # test.py


def make(name: str, settings: SuiteSettings) -> Suite:
    """Create the suite; parts follow a colon, as in `t_eval:instruct+review_str`.

    Raises:
        InputError: for an unknown part.
    """
    parts = tuple(part for part in name.partition(":")[2].split("+") if part) or PARTS
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise InputError(f"t_eval has no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    needs_similarity = {*_NEED_SIMILARITY, "rru_json"} & set(parts)
    return TEval(settings, _similarity(settings) if needs_similarity else None, parts)


class TEval(Suite):
    """T-Eval; see the module's docstring.

    Args:
        settings: settings with the data folder.
        similarity: measure that compares plans and thoughts; None omits them.
        parts: names from `PARTS`.
    """

    name = "t_eval"
    title = "T-Eval"
    untested = True

    def __init__(self, settings: SuiteSettings, similarity: Similarity | None, parts: Sequence[str] = PARTS) -> None:
        self._similarity = similarity
        played = [part for part in PARTS if part in parts and (similarity or part not in _NEED_SIMILARITY)]
        if not played:
            raise InputError(
                f"t_eval's {', '.join(parts)} need the model {_ENCODER}, which is unavailable; put it into "
                "ROLEWISE_DATA/all-mpnet-base-v2, or choose other parts"
            )
        self._files = {part: find_file(_data_file(part), settings) for part in played}

    def examples(self) -> Sequence[Example]:
        """See `Suite`."""
        return [example for part, file in self._files.items() for example in _examples(part, file.path)]

    def play(self, example: Example) -> Play:
        """See `Suite`. A step of `rru_json` is scored for three abilities at once; its score is their mean."""
        answer = yield Ask(messages=_messages(example.data["origin_prompt"]), max_new_tokens=_MAX_NEW_TOKENS)
        scores = _scores(example.category, example.data, rules.clean(answer.text), self._similarity)
        return Verdict(sum(scores.values()) / len(scores), answer.error or "", {"scores": scores})

    def version(self) -> dict[str, Any]:
        """See `Suite`."""
        return {
            "files": {part: file.identity for part, file in self._files.items()},
            "commit": _COMMIT,
            "similarity": self._similarity.describe() if self._similarity else None,
        }

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Return the mean over abilities, then each ability: the mean over its formats.

        The intervals assume independent formats and abilities; those of `rru_json` rest on the same examples.
        """
        abilities: list[Score] = []
        missing: list[str] = []
        for ability, categories in _ABILITIES.items():
            parts, absent = [], []
            for category in categories:
                of_category = [verdict.detail["scores"] for example, verdict in results if example.category == category]
                values = [scores[ability] for scores in of_category if ability in scores]
                if values:
                    parts.append((1.0, mean_score(category, values)))
                else:
                    absent.append(category)
            if not parts:
                missing.append(ability)
                continue
            missing += [f"{ability} in {category}" for category in absent]
            note = f"partial: without {', '.join(absent)}" if absent else ""
            abilities.append(weighted_score(ability, parts, note))
        note = f"partial: without {', '.join(missing)}" if missing else ""
        return [weighted_score("overall", [(1.0, score) for score in abilities], note), *abilities]


def _similarity(settings: SuiteSettings) -> Similarity | None:
    """Return the embedding model; None if it is unavailable."""
    local = settings.data / "all-mpnet-base-v2" if settings.data is not None else None
    try:
        if local is not None and local.is_dir():
            return SentenceEmbedding(str(local))
        return SentenceEmbedding(_ENCODER, _ENCODER_COMMIT)
    except (OSError, ValueError):
        return None


def _data_file(part: str) -> DataFile:
    name = _FILES[part]
    return DataFile(name=name, url=f"{_HUB}/{name}", sha256=None, local=f"eval_teval/{name}")


def _examples(part: str, path: Path) -> list[Example]:
    """Read the examples of a file, which holds an object of examples by key.

    Raises:
        InputError: naming the file and the example.
    """
    try:
        records = read_json(read_text(path, MAX_FILE_BYTES, "data file", "utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(records, dict):
        raise InputError(f"{path}: expected a JSON object of examples; is it a T-Eval v2 file?")
    examples = []
    for key, record in records.items():
        try:
            category = f"instruct_{record['meta_data']['response_format']}" if part == "instruct" else part
            _messages(record["origin_prompt"])
            _scores(category, record, "", None)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{path}: example {key!r} is not one of T-Eval's {part} ({type(error).__name__})"
            ) from error
        examples.append(Example(f"{part}/{key}", category, record))
    return examples


def _messages(prompt: Sequence[dict[str, str]]) -> Messages:
    """Return a prompt in the form of chat templates: results of functions become user turns, and consecutive turns of
    one role are joined.

    T-Eval's own templates for open models do the same.
    """
    messages: Messages = []
    for number, message in enumerate(prompt):
        role = message["role"]
        if role not in ("system", "user", "assistant", "function"):
            raise ValueError(f"unknown role {role!r}")
        if role == "function" or (role == "system" and number > 0):
            role = "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + message["content"]
        else:
            messages.append({"role": role, "content": "" + message["content"]})
    return messages


def _scores(category: str, record: dict[str, Any], text: str, similarity: Similarity | None) -> dict[str, float]:
    """Return the score of each ability that an example tests, except those that need a missing similarity."""
    reference = record["ground_truth"]
    if category.startswith("instruct_"):
        response_format = category.removeprefix("instruct_")
        return {"instruct": rules.instruct(text, record["template"], reference, response_format)}
    if category == "review_str":
        return {"review": rules.review(text, reference["answer"])}
    if category.startswith("plan_"):
        return {"plan": _plan(category, record, text, similarity)}
    return _step_scores(category, reference, text, similarity)


def _plan(category: str, record: dict[str, Any], text: str, similarity: Similarity | None) -> float:
    is_text = category == "plan_str"
    plan = rules.plan_in_text(text, record["meta"]["API_list"]) if is_text else rules.plan_in_json(text)
    if similarity is None:
        return 0.0
    return rules.plan_f1(plan, rules.plan_in_json(record["ground_truth"]), similarity)


def _step_scores(category: str, reference: Any, text: str, similarity: Similarity | None) -> dict[str, float]:
    """Return the scores of a step's thought, name and arguments, or of the one that the category tests."""
    wanted = rules.thought_name_and_arguments(reference, arguments_as_text=category != "rru_json")
    if category == "retrieve_str":
        return {"retrieve": rules.retrieve_in_text(text, wanted["name"]) if wanted else 0.0}
    if category == "understand_str":
        return {"understand": rules.understand_in_text(text, wanted["args"]) if wanted else 0.0}
    if category == "reason_str":
        return {"reason": rules.reason(text, wanted["thought"], similarity) if wanted and similarity else 0.0}
    step = rules.thought_name_and_arguments(text)
    scores = {"retrieve": 0.0, "understand": 0.0}
    if step and wanted:
        scores["retrieve"] = float(step["name"] == wanted["name"])
        scores["understand"] = rules.understand(step["args"], wanted["args"])
    if similarity is not None:
        is_sound = bool(step and wanted)
        scores["reason"] = rules.reason(step["thought"], wanted["thought"], similarity) if is_sound else 0.0
    return scores
