"""Contrast: SHAD's quantity, read off one untuned model under right and wrong histories.

A token that the input decides is likely after its own history and unlikely after that of another conversation; a brace,
a stock phrase and a copy of what the answer has said already are equally likely after both. The score of a token is

    C(y_k) = log p(y_k | x, y_<k) − log p̄(y_k | y_<k),

with p̄ from K histories of other conversations: the pointwise mutual information of a token with its input, given what
precedes it in the output. It is what the loss difference of SHAD (arXiv 2412.14780, eq. 1) approaches as tuning on
shuffled pairs makes the model forget the input. The input x of an assistant turn is everything before it, earlier turns
included.

Shapes: T tokens, N loss tokens of all samples, K histories.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.lazy_sequence import LazySequence
from rolewise.core.role import Role
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample, Turn
from rolewise.labelling.classify import roles_by_score, split_boilerplate
from rolewise.labelling.histories import draw_histories
from rolewise.labelling.history_grid import GridShard, HistoryScorer, plan_grid, score_grid
from rolewise.labelling.measuring import MeasuringLabeller, MeasuringPlan, score_missing
from rolewise.labelling.scoring import reserve, scored_length
from rolewise.labelling.settings.contrast import HIGHEST, LOWEST, ContrastConfig, Estimator
from rolewise.labelling.tuned_losses import conversations
from rolewise.labelling.words import WORD, is_punctuation, is_repeated, largest_of_word, split_characters, words_of
from rolewise.roles.regex import label_format
from rolewise.training import processes
from rolewise.training.models import load_model


@dataclass(frozen=True, kw_only=True)
class ContrastPlan(MeasuringPlan):
    """Contrast's plan for a data set.

    Attributes:
        shards: the samples to score, with the uses of their histories.
        conversations: conversation of each sample.
        fewest: number of histories of the output that has the fewest.
    """

    shards: list[GridShard]
    conversations: list[str]
    fewest: int


class Contrast(MeasuringLabeller):
    """Labels tokens of rendered samples as reasoning or boilerplate; arguments as for `MeasuringLabeller`."""

    settings: ContrastConfig

    def plan(self, samples: Sequence[RenderedSample]) -> ContrastPlan:
        """Draw the histories, without loading the model.

        Raises:
            InputError: if an output has no history of another conversation.
        """
        config = self.settings
        groups = conversations(samples)
        drawn = draw_histories(samples, groups, config.histories, config.seed, same_beginning=config.same_beginning)
        scoring = self.scoring()
        shards = plan_grid(samples, drawn, scoring["shard_tokens"])
        return ContrastPlan(
            shards=shards,
            conversations=groups,
            fewest=min(len(group.histories) for group in drawn),
            device=scoring["device"],
            batch_tokens=scoring["batch_tokens"],
            tokens_to_score=sum(shard.tokens for shard in shards),
        )

    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: MeasuringPlan | None = None
    ) -> tuple["ContrastLabels", list[bool]]:
        """Return labels of every sample, and a flag per sample to leave it out of the reported metrics: never here.

        `work` keeps finished shards of losses; call again with the same samples and settings to resume a killed run.
        Several processes share the work; each gets all labels.
        """
        processes.start()
        plan = plan if isinstance(plan, ContrastPlan) else self.plan(samples)
        directory = work / "losses"
        shards = plan.shards

        def score_shards(mine: list[GridShard]) -> Iterator[int]:
            scorer = self._scorer(shards, samples, plan)
            yield from score_grid(mine, samples, scorer, directory)

        score_missing(
            shards,
            directory,
            lambda shard: shard.tokens,
            score_shards,
            progress,
            "score, own and other histories",
            plan.tokens_to_score,
        )
        losses = ContrastLosses(plan.shards, samples, directory, self.settings.histories)
        return ContrastLabels(losses, samples, self.settings, plan.conversations), [False] * len(samples)

    def _scorer(
        self, shards: Sequence[GridShard], samples: Sequence[RenderedSample], plan: MeasuringPlan
    ) -> HistoryScorer:
        model = load_model(
            self.model, dtype=self.settings.dtype, device=plan.device, trust_remote_code=self.trust_remote_code
        )
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        longest = samples[shards[0].samples[0]]
        if limit is not None and scored_length(longest) > limit:
            raise InputError(
                f"{longest.source}: {scored_length(longest):,} tokens, while the model reads {limit:,}; give "
                f"--max-length {limit}"
            )
        scorer = HistoryScorer(model, batch_tokens=plan.batch_tokens, limit=limit)
        # On the same sample in every process and after every interruption: it may be a close call.
        first = next(i for shard in shards for i, serves in shard.work if serves)
        scorer.try_cache(samples[first].input_ids, samples[first].loss_mask)
        return scorer


class ContrastLosses(LazySequence[tuple[np.ndarray, np.ndarray]]):
    """Losses of every sample's tokens under its own history, shape (T,), and under the others, shape (K, T).

    NaN where there is none. They are read from the shards' files into an unnamed temporary file, sorted into the
    samples' order, and from there on demand.
    """

    def __init__(
        self, shards: Sequence[GridShard], samples: Sequence[RenderedSample], directory: Path, histories: int
    ) -> None:
        self._samples = samples
        counts = [int(np.count_nonzero(sample.loss_mask)) for sample in samples]
        self._starts = np.concatenate([[0], np.cumsum(np.array(counts, dtype=np.int64))])
        shape = (1 + histories, max(1, int(self._starts[-1])))
        with tempfile.TemporaryFile() as file:  # the map keeps it open
            reserve(file, 4 * math.prod(shape))
            self._losses = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
        self._losses[:] = np.nan
        for shard in shards:
            with np.load(shard.path(directory)) as arrays:
                own_N, other_N = arrays["own"], arrays["other"]
            own_place = other_place = 0
            for i, serves in shard.work:
                first = int(samples[i].loss_mask[0])  # nothing predicts the first token
                place = slice(self._starts[i] + first, self._starts[i + 1])
                size = place.stop - place.start
                self._losses[0, place] = own_N[own_place : own_place + size]
                own_place += size
                for use in serves:
                    for ref in use.outputs:
                        sample = samples[ref.sample]
                        turn = sample.turns[ref.turn]
                        start = self._starts[ref.sample] + int(np.count_nonzero(sample.loss_mask[: turn.start]))
                        size = turn.end - turn.start
                        self._losses[1 + use.slot, start : start + size] = other_N[other_place : other_place + size]
                        other_place += size

    def __len__(self) -> int:
        return len(self._samples)

    def item(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses of the sample at a place, from 0."""
        mask_T = self._samples[place].loss_mask
        losses = np.full((len(self._losses), len(mask_T)), np.nan, dtype=np.float32)
        losses[:, mask_T] = self._losses[:, self._starts[place] : self._starts[place + 1]]
        return losses[0], losses[1:]


class ContrastLabels(LazySequence[TokenLabels]):
    """Labels of samples with known losses; each label is made on demand.

    `tuned_loss_T` of a label is the estimated loss without the input, `score_T` what the threshold decides on:
    contrast, clipped and pooled over words, plus λ times rarity; the lowest score where rules or an earlier occurrence
    of the word decide for boilerplate.

    Attributes:
        token_counts: counts of the loss tokens, if the scores use rarity.
    """

    def __init__(
        self,
        losses: ContrastLosses,
        samples: Sequence[RenderedSample],
        config: ContrastConfig,
        conversations: Sequence[str],
    ) -> None:
        self._losses, self._samples, self._config = losses, samples, config
        self._conversations = conversations
        self._of_conversation: dict[str, Counter[int]] = {}
        self.token_counts: Counter[int] | None = Counter() if config.rarity else None
        if self.token_counts is not None:
            for sample, conversation in zip(samples, conversations, strict=True):
                own = self._of_conversation.setdefault(conversation, Counter())
                own.update(sample.input_ids[sample.loss_mask].tolist())
            for own in self._of_conversation.values():
                self.token_counts.update(own)

    def __len__(self) -> int:
        return len(self._samples)

    def item(self, place: int) -> TokenLabels:
        """Return the labels of the sample at a place, from 0."""
        sample, config = self._samples[place], self._config
        own_T, other_KT = self._losses[place]
        without_T = np.full(len(own_T), np.nan, dtype=np.float32)
        for turn in sample.turns:
            part = slice(turn.start, turn.end)
            without_T[part] = loss_without_input(other_KT[:, part], config.estimator)
        without_T[np.isnan(own_T)] = np.nan
        rarity_T = None
        if self.token_counts is not None:
            own = self._of_conversation[self._conversations[place]]
            rarity_T = rarity(sample.input_ids, self.token_counts, own)
        tokens = (sample.text, sample.char_start, sample.char_end, sample.turns)
        said = self._said_before(place) if config.copies else set()
        score_T, by_rules_T = scores(own_T, without_T, *tokens, config, rarity_T, said)
        roles_T = roles_by_score(score_T, sample.loss_mask, config.threshold)
        return TokenLabels(split_boilerplate(roles_T, by_rules_T), own_T, without_T, score_T)

    def _said_before(self, place: int) -> set[str]:
        """Return the words of the conversation's earlier turns that are samples of their own, if its history shows
        them."""
        sample = self._samples[place]
        said: set[str] = set()
        for i in range(place - 1, -1, -1):  # samples of a conversation follow each other
            earlier = self._samples[i]
            if earlier.source != sample.source:
                break
            words = words_of(earlier.text, earlier.char_start, earlier.char_end, earlier.turns)
            said.update(word.text for word in words)
        if said:
            said.intersection_update(WORD.findall(sample.text, 0, int(sample.char_start[sample.turns[0].start])))
        return said


def scores(
    own_T: np.ndarray,
    without_T: np.ndarray,
    text: str,
    char_start_T: np.ndarray,
    char_end_T: np.ndarray,
    turns: Sequence[Turn],
    config: ContrastConfig,
    rarity_T: np.ndarray | None = None,
    said: Collection[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each token (float32 nats, shape (T,); NaN if not measured), and which are format by rules.

    Args:
        own_T: losses after the own history.
        without_T: estimated losses without the input.
        text: the text of the tokens.
        char_start_T: each token's first character in it.
        char_end_T: one past its last.
        turns: the tokens of each output.
        config: settings.
        rarity_T: rarity of the tokens, if the score uses it.
        said: words that the conversation's answers said before this text's.
    """
    score_T = np.clip(without_T - own_T, LOWEST, HIGHEST).astype(np.float32)
    words = words_of(text, char_start_T, char_end_T, turns)
    if config.pooling == "word":
        score_T = largest_of_word(score_T, split_characters(char_start_T, char_end_T))
        score_T = largest_of_word(score_T, words)
    if rarity_T is not None:
        score_T += (config.rarity * rarity_T).astype(np.float32)
    is_measured_T = ~np.isnan(score_T)
    spans = [(int(char_start_T[turn.start]), int(char_end_T[turn.end - 1])) for turn in turns]
    by_rules_T = label_format(text, char_start_T, char_end_T, spans) == Role.FORMAT
    if config.rules:
        score_T[by_rules_T & is_measured_T] = LOWEST
    if config.punctuation:
        score_T[is_punctuation(text, char_start_T, char_end_T, words) & is_measured_T] = LOWEST
    if config.copies:
        score_T[is_repeated(words, len(score_T), said) & is_measured_T] = LOWEST
    return score_T, by_rules_T


def loss_without_input(other_KT: np.ndarray, estimator: Estimator) -> np.ndarray:
    """Return the estimated loss of an output's tokens without its input (nats, shape (T,)).

    Args:
        other_KT: losses of the output's tokens under each of K histories; rows of NaN are left out.
        estimator: see `ContrastConfig`. The posterior of a history is proportional to the probability that it gives to
            the output so far, p(y_<k | x_j); only with it is the result an estimate of −log p(y_k | y_<k).
    """
    losses_KT = other_KT[~np.isnan(other_KT).all(axis=1)].astype(np.float64)
    if not len(losses_KT):
        return np.full(other_KT.shape[1], np.nan)
    if estimator == "mean":
        return np.asarray(losses_KT.mean(axis=0))
    if estimator == "best":
        return np.asarray(losses_KT.min(axis=0))
    weights_KT = np.zeros_like(losses_KT)  # logarithms, up to a constant
    if estimator == "posterior":
        weights_KT[:, 1:] = -np.cumsum(np.nan_to_num(losses_KT), axis=1)[:, :-1]
    total_T = np.logaddexp.reduce(weights_KT, axis=0)
    return np.asarray(total_T - np.logaddexp.reduce(weights_KT - losses_KT, axis=0))


def rarity(ids_T: np.ndarray, counts: "Counter[int]", own: "Counter[int]") -> np.ndarray:
    """Return −log of each token's share of the loss tokens of the other conversations (nats, shape (T,)).

    Every kind of token counts half an occurrence more (the Krichevsky–Trofimov estimator), so that none has none.
    """
    total = counts.total() - own.total() + len(counts) / 2
    return np.array([-math.log((counts[i] - own[i] + 0.5) / total) for i in ids_T.tolist()])
