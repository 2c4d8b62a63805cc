"""Where two engines part, and whether rounding explains it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from rolewise.engines.agreement import greedy_agreement
from rolewise.engines.base import Sample, Sampling
from rolewise.engines.transformers_engine import TransformersEngine

PROMPTS = [[7, 8, 9], [20, 21], [30, 31, 32, 33]]


class OtherEngine(TransformersEngine):
    """Takes the second-best token once, at a place of one prompt's answer, and ends another's answer early."""

    place, short = (1, 4), (2, 5)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Sample]]:
        answers = super().generate(prompts, sampling)
        for index, length in (self.place, self.short):
            [sample] = answers[index]
            ids = sample.ids[:length]
            if (index, length) == self.place:
                ids.append(int(self.next_logprobs([*prompts[index], *ids]).topk(2).indices[1]))
            answers[index] = [replace(sample, ids=ids)]
        return answers

    @torch.no_grad()
    def next_logprobs(self, ids: Sequence[int]) -> torch.Tensor:
        return self._model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)


def test_agreement_is_measured_up_to_the_first_difference(chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model(vocab_size=len(chatml_tokenizer))
    model.generation_config.eos_token_id = None
    one, other = TransformersEngine(model, chatml_tokenizer), OtherEngine(model, chatml_tokenizer)
    sampling = Sampling(max_new_tokens=8)
    answers = [samples[0].ids for samples in one.generate(PROMPTS, sampling)]
    assert [len(ids) for ids in answers] == [8, 8, 8]
    same, parted, cut = greedy_agreement(one, other, PROMPTS, sampling)
    assert (same.equal, same.length, same.gap, same.explained) == (8, 8, None, True)
    best = other.next_logprobs([*PROMPTS[1], *answers[1][:4]]).topk(2).values
    gap = float(best[0] - best[1])
    assert (parted.equal, parted.length, parted.explained) == (4, 8, False)
    assert parted.gap == pytest.approx(gap, abs=1e-5)
    assert (cut.equal, cut.length, cut.gap, cut.explained) == (5, 8, None, False)
    assert greedy_agreement(one, other, PROMPTS, sampling, gap=gap + 0.01)[1].explained
    with pytest.raises(ValueError, match="greedy"):
        greedy_agreement(one, other, PROMPTS, Sampling(temperature=1.0))
