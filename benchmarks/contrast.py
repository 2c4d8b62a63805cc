"""Cost of contrast's scoring, against the bare forward passes of the same tokens and against reading histories again.

    python benchmarks/contrast.py --model MODEL_DIRECTORY [--shad]

Every answer of the generator's samples is scored after its own history and after K others, in three ways:

- `ours`: what `rolewise label --method contrast` runs: each sample once, K groups of answers after its keys and values,
  cross-entropy, losses to NumPy, shards to disk.
- `bare`: forward passes of the same tokens in the same batches: each sample, and each group of answers without any
  history. The LM head over the hidden states that predict a labelled token; no cross-entropy, nothing kept.
- `again`: ours without reusing keys and values: each history is read again before each group.

The ways take turns shard by shard, their order rotating. A round covers all the data; ratios are paired by round. With
`--shad`, also the time of a whole labelling by SHAD over that of a whole labelling by contrast, in turns.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from record import as_json, rendered_samples, seconds_of, write_record
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rolewise.cli.console import run_script
from rolewise.core.statistics import ratio_interval
from rolewise.data.render import RenderedSample
from rolewise.labelling.contrast import Contrast
from rolewise.labelling.history_grid import GridShard, HistoryScorer, score_grid
from rolewise.labelling.scoring import collate
from rolewise.labelling.settings.contrast import ContrastConfig
from rolewise.labelling.settings.shad import SHADConfig
from rolewise.labelling.shad import SHAD
from rolewise.training.models import default_device, load_model, load_tokenizer
from rolewise.training.token_losses import selected_logits

ScoreShard = Callable[[GridShard], None]


def ours(model: torch.nn.Module, samples: list[RenderedSample], directory: Path, *, reuse: bool) -> ScoreShard:
    """The code that `rolewise label` runs. Shards are written afresh every time."""
    scorer = HistoryScorer(model, batch_tokens=2048, limit=None)
    scorer.reuses = reuse

    def score_shard(shard: GridShard) -> None:
        shard.path(directory).unlink(missing_ok=True)
        for _ in score_grid([shard], samples, scorer, directory):
            pass

    return score_shard


def bare(model: torch.nn.Module, samples: list[RenderedSample], device: str) -> ScoreShard:
    """Forward passes on the same tokens, collated while the clock stands still."""
    head = model.get_output_embeddings()

    def batches(shard: GridShard) -> list[tuple[torch.Tensor, torch.Tensor]]:
        found = []
        for i, serves in shard.work:
            found.append(collate([samples[i]], device))
            for use in serves:
                outputs = []
                for ref in use.outputs:
                    turn = samples[ref.sample].turns[ref.turn]
                    outputs.append(samples[ref.sample].input_ids[turn.start - 1 : turn.end].astype(np.int64))
                ids_BT = torch.zeros(len(outputs), max(map(len, outputs)), dtype=torch.long)
                labels_BT = torch.full_like(ids_BT, -100)
                for row, output in enumerate(outputs):
                    ids_BT[row, : len(output)] = torch.from_numpy(output)
                    labels_BT[row, 1 : len(output)] = torch.from_numpy(output[1:])
                found.append((ids_BT.to(device), labels_BT.to(device)))
        return found

    made: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def score_shard(shard: GridShard) -> None:
        with torch.inference_mode():
            for ids_BT, labels_BT in made[shard.number]:
                selected_logits(model, head, {"input_ids": ids_BT, "use_cache": False}, labels_BT)

    def prepared(shard: GridShard) -> None:
        if shard.number not in made:
            made[shard.number] = batches(shard)
        score_shard(shard)

    return prepared


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--conversations", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--histories", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chat-template")
    parser.add_argument("--shad", action="store_true", help="also whole labellings by SHAD and by contrast")
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-contrast.json"))
    options = parser.parse_args()
    device = default_device()
    samples = rendered_samples(
        load_tokenizer(options.model), options.conversations, options.seed, options.chat_template
    )
    config = ContrastConfig(histories=options.histories)
    plan = Contrast(options.model, config).plan(samples)
    model = load_model(options.model, device=device)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "ours": ours(model, samples, Path(folder), reuse=True),
            "bare": bare(model, samples, device),
            "again": ours(model, samples, Path(folder) / "again", reuse=False),
        }
        for way in ways.values():
            way(plan.shards[0])  # warms up, and lets `bare` collate off the clock
            for shard in plan.shards if way is ways["bare"] else []:
                way(shard)
        seconds = {name: [0.0] * options.rounds for name in ways}
        names, turn = list(ways), 0
        for number in range(options.rounds):
            for shard in plan.shards:
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    seconds[name][number] += seconds_of(partial(ways[name], shard))
                turn += 1
        ratios = {
            "ours / bare": ratio_interval(seconds["ours"], seconds["bare"]),
            "again / ours": ratio_interval(seconds["again"], seconds["ours"]),
        }
        if options.shad:
            del model
            labellings = {
                "SHAD": SHAD(options.model, SHADConfig()),
                "contrast": Contrast(options.model, config),
            }
            whole: dict[str, list[float]] = {name: [] for name in labellings}
            for number in range(3):
                for name, labeller in labellings.items():
                    work = Path(folder) / f"{name}-{number}"
                    work.mkdir()
                    whole[name].append(seconds_of(lambda: labeller.label(samples, work, Progress(disable=True))))  # noqa: B023
                    shutil.rmtree(work)
            ratios["SHAD / contrast, whole labelling"] = ratio_interval(whole["SHAD"], whole["contrast"])
            seconds |= whole
    table = Table("ratio", "median [95 % interval]")
    for name, ratio in ratios.items():
        table.add_row(name, f"{ratio:.2f}")
    Console().print(table)
    Console().print(
        f"{plan.tokens_to_score:,} tokens a round; ours {plan.tokens_to_score / np.median(seconds['ours']):,.0f}/s"
    )
    results = {"tokens": plan.tokens_to_score, "seconds": seconds, "ratios": {n: as_json(r) for n, r in ratios.items()}}
    write_record(options, device, results)


if __name__ == "__main__":
    run_script(main)
