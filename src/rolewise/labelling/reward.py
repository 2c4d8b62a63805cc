"""Token rewards, the weights of RewardFT in the comparison of arXiv 2412.14780.

A model tuned by DPO on general preference data gives each token the reward log π_dpo(y_t) − log π_ref(y_t), which is
the fall of the token's loss: base loss − tuned loss. Tuning uses no data of the target set, so there are no folds.
The comparison names the preference data (Orca DPO, UltraFeedback) but no settings; a LoRA adapter at 5e-5 and β = 0.1
are usual.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress
from transformers import PreTrainedTokenizerBase

from rolewise.data.labelled import TokenLabels
from rolewise.data.preferences import Preferences
from rolewise.data.render import RenderedSample
from rolewise.labelling.classify import KeptLabels
from rolewise.labelling.preference_tuning import tune_by_preferences
from rolewise.labelling.settings.reward import RewardConfig
from rolewise.labelling.tuned_losses import TunedLossesPlan, TuningLabeller
from rolewise.training import processes

CHARACTERS_PER_TOKEN = 4
"""Average length of a token, for cost estimates only."""


class Reward(TuningLabeller):
    """Labels a token REASONING if its reward is 0 or more, else BOILERPLATE; training reads the rewards.

    Args:
        model: the reference model, as for `TuningLabeller`.
        tokenizer: the model's tokenizer, with the chat template for conversations.
        preferences: pairs to tune on; None with a `reward_model`.
        reward_model: an adapter of the model, or a model with the same tokenizer, already tuned by DPO.
        config: settings.
        max_length: maximum length of prompt and answer together, in tokens.
        trust_remote_code: passed on to Transformers.
    """

    def __init__(
        self,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        preferences: Preferences | None = None,
        reward_model: str | None = None,
        config: RewardConfig | None = None,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ):
        self.config = config or RewardConfig()
        super().__init__(model, self.config, max_length=max_length, trust_remote_code=trust_remote_code)
        self.tokenizer = tokenizer
        self.preferences = preferences
        self.reward_model = reward_model

    def plan(self, samples: Sequence[RenderedSample]) -> TunedLossesPlan:
        """Form the batches, without loading a model."""
        rows = self.preferences.rows if self.preferences is not None else []
        lengths = [min(len(str(row)) // CHARACTERS_PER_TOKEN, self.max_length or 1 << 30) for row in rows]
        return TunedLossesPlan(
            **self.layout(samples, [0] * len(samples)),
            tuning=self.config.tuning_of(len(rows)),
            examples=[len(rows)] if rows else [],
            kind="preference pairs",
            longest_example=max(lengths, default=0),
            tokens_to_tune=self.config.epochs * sum(lengths),
        )

    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: TunedLossesPlan | None = None
    ) -> tuple[Sequence[TokenLabels], list[bool]]:
        """Return roles and losses of every sample; the reported metrics leave none out."""
        processes.start()
        plan = plan or self.plan(samples)
        tuned = Path(self.reward_model) if self.reward_model is not None else work / "tuned-0"
        if self.preferences is not None:
            tune_by_preferences(
                self.model,
                self.preferences,
                self.tokenizer,
                tuned,
                plan.tuning,
                beta=self.config.beta,
                max_length=self.max_length,
                device=plan.device,
                trust_remote_code=self.trust_remote_code,
                progress=progress,
            )
        measured = self.measure(samples, plan, [tuned], work, progress)
        return KeptLabels(measured, 0.0), [False] * len(samples)
