"""T-Eval (arXiv 2312.14033): six abilities of tool use, each tested separately.

English v2 of the hub's `lovesnowbest/T-Eval` at a pinned commit, scored by `rules`. Plans and thoughts are compared by
the embeddings of `sentence-transformers/all-mpnet-base-v2`, from the hub or from `all-mpnet-base-v2` in the data
folder; if that model is unavailable, they are omitted and the summary says "partial". Untested on the real data, whose
SHA-256 was unavailable.
"""

from collections.abc import Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.evaluation.accuracy import Score, mean_score, weighted_score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sentence_embedding import SentenceEmbedding, Similarity
from rolewise.evaluation.sources import find_file
from rolewise.evaluation.suite import Ask, Play, Suite, SuiteSettings, chosen_parts
from rolewise.evaluation.suites.t_eval import rules
from rolewise.evaluation.suites.t_eval.files import COMMIT, DATA_FILES, messages_of, read_examples

PARTS = tuple(DATA_FILES)

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
    parts = chosen_parts(name, "part", PARTS)
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
        self._files = {part: find_file(DATA_FILES[part], settings) for part in played}

    def examples(self) -> Sequence[Example]:
        return [example for part, file in self._files.items() for example in read_examples(part, file.path)]

    def play(self, example: Example) -> Play:
        """See `Suite`. A step of `rru_json` is scored for three abilities at once; its score is their mean."""
        answer = yield Ask(messages=messages_of(example.data["origin_prompt"]), max_new_tokens=_MAX_NEW_TOKENS)
        scores = rules.ability_scores(example.category, example.data, rules.clean(answer.text), self._similarity)
        return Verdict(sum(scores.values()) / len(scores), answer.error or "", {"scores": scores})

    def version(self) -> dict[str, Any]:
        return {
            "files": {part: file.identity for part, file in self._files.items()},
            "commit": COMMIT,
            "similarity": self._similarity.describe() if self._similarity else None,
        }

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Return the mean over abilities, then each ability: the mean over its formats.

        The intervals assume independent formats and abilities; those of `rru_json` rest on the same examples.
        """
        abilities: list[Score] = []
        missing: list[str] = []
        for ability, categories in _ABILITIES.items():
            values: dict[str, list[float]] = {category: [] for category in categories}
            for example, verdict in results:
                if example.category in values and ability in verdict.detail["scores"]:
                    values[example.category].append(verdict.detail["scores"][ability])
            parts = [(1.0, mean_score(category, found)) for category, found in values.items() if found]
            absent = [category for category, found in values.items() if not found]
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
