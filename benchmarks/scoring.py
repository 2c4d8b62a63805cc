"""Throughput of SHAD's scoring pass against the bare forward passes and against the naive way.

    python benchmarks/scoring.py --model MODEL_DIRECTORY

Every token of the generator's samples gets its loss under the base model and under the base model with a LoRA adapter
of rank 16 (random, not zero), in four ways:

- `ours`: what `rolewise label` runs: collating, both passes, cross-entropy, losses to NumPy, shards to disk.
- `bare`: the forward passes alone, adapter on and adapter off, on the same batches, collated beforehand: the backbone,
  and the LM head over the hidden states that predict a labelled token. No cross-entropy, nothing copied, nothing kept.
- `backbone`: the same without the LM head.
- `naive`: two separate models (the adapter merged into the second), one sample at a time, logits of every position,
  log-softmax over all of them, gather.

The four ways take turns shard by shard, their order rotating, so a slow spell of the machine meets them all. A round
covers all the data; ratios are paired by round. Models are loaded and warmed up before the clock starts. Four copies of
the weights are in memory.

Shapes: B rows, T tokens, V vocabulary, N labelled tokens.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from record import as_json, rendered_samples, seconds_of, write_record
from rich.console import Console
from rich.table import Table
from torch import nn

from rolewise.cli.console import run_script
from rolewise.core.statistics import ratio_interval
from rolewise.data.render import RenderedSample
from rolewise.labelling.scoring import MeasuredLosses, Shard, collate, plan_shards, score, scored_length
from rolewise.labelling.tuned_losses import paired_losses
from rolewise.training.models import default_device, load_model, load_tokenizer, lora_config

RANK = 16


@dataclass(frozen=True)
class Case:
    """What is scored, and with which models."""

    model: str
    dtype: str
    device: str
    adapter: Path
    samples: list[RenderedSample]
    shards: list[Shard]


SampleLosses = dict[int, tuple[np.ndarray, np.ndarray]]
"""Base and tuned losses (N,) of the labelled tokens, by the sample's place."""

ScoreShard = Callable[[Shard], object]


def ours(case: Case, directory: Path) -> ScoreShard:
    """The code that `rolewise label` runs. Shards are written afresh every time."""
    losses = paired_losses(case.model, [case.adapter], dtype=case.dtype, device=case.device)

    def score_shard(shard: Shard) -> None:
        shard.path(directory).unlink(missing_ok=True)
        for _ in score([shard], case.samples, losses, directory, case.device):
            pass

    return score_shard


def bare(case: Case, *, with_head: bool) -> ScoreShard:
    """Forward passes on batches that were collated beforehand."""
    model = PeftModel.from_pretrained(_load(case), str(case.adapter)).eval()
    backbone, head = model.get_base_model().base_model, model.get_output_embeddings()
    batches = {
        shard.number: [collate([case.samples[i] for i in batch.samples], case.device) for batch in shard.batches]
        for shard in case.shards
    }

    def forward(ids_BT: torch.Tensor, positions_BT: torch.Tensor) -> None:
        hidden_BTD = backbone(input_ids=ids_BT, use_cache=False).last_hidden_state
        if with_head:
            head(hidden_BTD[positions_BT])

    def score_shard(shard: Shard) -> None:
        with torch.inference_mode():
            for ids_BT, labels_BT in batches[shard.number]:
                positions_BT = nn.functional.pad(labels_BT[:, 1:] != -100, (0, 1))
                forward(ids_BT, positions_BT)
                with model.disable_adapter():
                    forward(ids_BT, positions_BT)

    return score_shard


def naive(case: Case) -> Callable[[Shard], SampleLosses]:
    """Two models, one sample at a time, full logits. Returns base and tuned losses per sample."""
    base = _load(case)
    tuned = PeftModel.from_pretrained(_load(case), str(case.adapter)).merge_and_unload().eval()

    def score_shard(shard: Shard) -> SampleLosses:
        found = {}
        for i in (i for batch in shard.batches for i in batch.samples):
            ids_T = torch.as_tensor(case.samples[i].input_ids, dtype=torch.long, device=case.device)
            mask_T = torch.as_tensor(case.samples[i].loss_mask, device=case.device)[1:]
            losses = []
            for model in (base, tuned):
                with torch.inference_mode():
                    log_probs_TV = model(ids_T[None]).logits[0].float().log_softmax(dim=-1)
                losses.append(-log_probs_TV[:-1].gather(1, ids_T[1:, None])[mask_T, 0].cpu().numpy())
            found[i] = (losses[0], losses[1])
        return found

    return score_shard


def measure(ways: dict[str, ScoreShard], shards: list[Shard], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, over all shards; the first shard warms up, off the clock."""
    for way in ways.values():
        way(shards[0])
    seconds = {name: [0.0] * rounds for name in ways}
    names = list(ways)
    turn = 0
    for number in range(rounds):
        for shard in shards:
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds[name][number] += seconds_of(partial(ways[name], shard))
            turn += 1
    return seconds


def largest_difference(case: Case, directory: Path, reference: Callable[[Shard], SampleLosses]) -> float:
    """The largest difference in nats between our losses and the naive ones: all ways must do the same work."""
    measured = MeasuredLosses(case.shards, case.samples, directory)
    largest = 0.0
    for shard in case.shards:
        for i, losses in reference(shard).items():
            for ours_T, naive_N in zip(measured[i][:2], losses, strict=True):
                largest = max(largest, float(np.abs(ours_T[~np.isnan(ours_T)] - naive_N).max()))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--samples", type=int, default=32, help="conversations of the generator")
    parser.add_argument("--rounds", type=int, default=5, help="passes over all data, at least 2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-tokens", type=int, help="default: 2048 on a CPU, else 16384, as rolewise label has it")
    parser.add_argument("--chat-template", help="for a model without one: chatml, or a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-scoring.json"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = default_device()
    tokenizer = load_tokenizer(options.model)
    samples = rendered_samples(tokenizer, options.samples, options.seed, options.chat_template)
    batch_tokens = options.batch_tokens or (2048 if device == "cpu" else 16384)
    shards = plan_shards(samples, [0] * len(samples), batch_tokens, (4 if device == "cpu" else 64) * batch_tokens)
    with tempfile.TemporaryDirectory() as temporary:
        case = Case(options.model, options.dtype, device, Path(temporary) / "adapter", samples, shards)
        _save_random_adapter(case)
        directory = Path(temporary) / "losses"
        reference = naive(case)
        ways = {
            "ours": ours(case, directory),
            "bare": bare(case, with_head=True),
            "backbone": bare(case, with_head=False),
            "naive": reference,
        }
        seconds = measure(ways, shards, options.rounds)
        difference = largest_difference(case, directory, reference)

    tokens = sum(scored_length(sample) for sample in samples)
    table = Table("way", "tokens/s, each scored by both models", "throughput of ours over it")
    results = {}
    for name, rounds in seconds.items():
        ratio = ratio_interval(rounds, seconds["ours"], seed=options.seed)
        speed = tokens / float(np.median(rounds))
        results[name] = {"tokens_per_second": speed, "ours_over_it": as_json(ratio), "seconds": rounds}
        table.add_row(name, f"{speed:,.0f}", f"{ratio:.3f}")
    console = Console()
    console.print(table)
    console.print(f"{tokens:,} tokens, {len(shards)} shards, losses differ by at most {difference:.1e} nats from naive")
    loss_tokens = sum(int(sample.loss_mask.sum()) for sample in samples)
    facts = {"tokens": tokens, "loss_tokens": loss_tokens, "shards": len(shards), "largest_difference": difference}
    write_record(options, device, {**facts, "ways": results})
    console.print(f"written to {options.output}")


def _load(case: Case) -> nn.Module:
    return load_model(case.model, dtype=case.dtype, device=case.device)


def _save_random_adapter(case: Case) -> None:
    model = get_peft_model(load_model(case.model, dtype=case.dtype), lora_config(RANK))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would make the tuned model the base model
            nn.init.normal_(parameter, std=0.01)
    model.save_pretrained(str(case.adapter))


if __name__ == "__main__":
    run_script(main)
