"""Share of the device's peak that scoring and training reach, on real models and on larger shapes with random weights.

    python benchmarks/utilisation.py --model MODEL_DIRECTORY --shapes 1B 3B 8B --dtype bfloat16 --batch 8 --tokens 2048

The peak is measured: the best of several products of two square matrices in `--dtype`. The work is counted, not
guessed: the floating-point operations of the bare forward pass, or of forward and backward, over the same tokens, as
PyTorch's counter finds them (attention over the whole square, the LM head at labelled positions, nothing for gradient
checkpointing's second forward pass). The share of the peak is that count over seconds and peak.

- `scoring`: what `rolewise label` does with a batch, losses under the model with and without a LoRA adapter.
- `training`: a step of RFT, forward and backward, with LoRA, or on all weights with `--tuning full`; with `--dtype
  bfloat16` under autocast, as `rolewise sft` trains on a GPU. The optimizer's step is off the clock.

Each has its *floor* beside it, the bare passes alone. All take turns; ratios are paired by round. A shape is a Llama of
that size with random weights, so it needs no download; speed does not depend on what the weights are.

Shapes: B rows, T tokens, D hidden size, K labelled tokens of a row.
"""

import argparse
import gc
import math
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import get_peft_model
from record import as_json, seconds_of, write_record
from rich.console import Console
from rich.table import Table
from steps import make_ready, precision, trainer_settings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel

from rolewise.cli.console import run_script
from rolewise.core.role import Role
from rolewise.core.statistics import ratio_interval
from rolewise.labelling.scoring import batch_losses
from rolewise.training.models import DTYPES, default_device, load_model, load_tokenizer, lora_config
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer

RANK = 16
LLAMA = {"num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072}
SHAPES: dict[str, dict[str, Any]] = {  # those of Llama 3.2 and 3.1
    "1B": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192},
    "3B": {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "intermediate_size": 8192},
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14_336},
}
TIED = ("1B", "3B")


@dataclass(frozen=True)
class Case:
    """A model, and the batch that it works on.

    Attributes:
        ids_BT, labels_BT: int64; the last K labels of a row are its ids, the others −100.
    """

    name: str
    config: PretrainedConfig
    ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    labelled: int

    def rows(self) -> Dataset:
        """The batch as a labelled data set, reasoning and boilerplate in turn."""
        roles_BT = torch.where(torch.arange(self.ids_BT.shape[1]) % 2 == 0, Role.REASONING, Role.TEMPLATE)
        roles_BT = torch.where(self.labels_BT.cpu() != -100, roles_BT, Role.CONTEXT)
        columns = {"input_ids": self.ids_BT, "labels": self.labels_BT, "token_roles": roles_BT}
        return Dataset.from_dict({name: values.tolist() for name, values in columns.items()})


def measured_peak(dtype: torch.dtype, device: str, size: int) -> float:
    """Floating-point operations per second of a product of two square matrices, the best of ten."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = min(seconds_of(lambda: left @ right) for _ in range(10))
    return 2 * size**3 / seconds


def counted(case: Case, tuning: str) -> dict[str, int]:
    """Floating-point operations of scoring and of training, on a model without weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(case.config, attn_implementation="eager")
        ids_BT = torch.zeros(case.ids_BT.shape, dtype=torch.long)
        # Given whole, since Transformers would look at the values of a smaller one, and there are none.
        mask_B1TT = torch.zeros(case.ids_BT.shape[0], 1, *[case.ids_BT.shape[1]] * 2)
    with FlopCounterMode(display=False) as base, torch.no_grad():
        head_outputs(model, ids_BT, case.labelled, mask_B1TT)
    model = get_peft_model(model, lora_config(RANK)) if tuning == "lora" else model
    with FlopCounterMode(display=False) as tuned, torch.no_grad():
        head_outputs(model, ids_BT, case.labelled, mask_B1TT)
    with FlopCounterMode(display=False) as both:
        head_outputs(model, ids_BT, case.labelled, mask_B1TT).sum().backward()
    return {"scoring": base.get_total_flops() + tuned.get_total_flops(), "training": both.get_total_flops()}


def head_outputs(
    model: nn.Module, ids_BT: torch.Tensor, labelled: int, mask_B1TT: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits that predict the last tokens of each row, from the bare passes."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden_BTD = base.base_model(input_ids=ids_BT, attention_mask=mask_B1TT, use_cache=False).last_hidden_state
    logits: torch.Tensor = base.get_output_embeddings()(hidden_BTD[:, -labelled - 1 : -1])
    return logits


def make_model(case: Case, options: argparse.Namespace, device: str) -> PreTrainedModel:
    """The real weights, or random ones of a shape."""
    if case.name not in SHAPES:
        return load_model(options.model, dtype=options.dtype, device=device)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(case.config, dtype=DTYPES[options.dtype]).eval()


def ways(case: Case, options: argparse.Namespace, work: str, device: str) -> dict[str, dict[str, Callable[[], None]]]:
    """Kind of work → ours and the floor, each doing it once."""
    model = make_model(case, options, device)
    arguments = WeightedSFTConfig(weighting="rft", **trainer_settings(options, work))
    rows = case.rows()
    trainer = WeightedSFTTrainer(
        model,
        arguments,
        train_dataset=rows,
        processing_class=load_tokenizer(options.model),
        peft_config=lora_config(RANK) if options.tuning == "lora" else None,
    )
    tuned = trainer.model
    make_ready(trainer)
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._prepare_inputs(trainer.data_collator(list(rows)))
    [batch], count = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    ids_BT, labels_BT = case.ids_BT.to(device), case.labels_BT.to(device)
    head = tuned.get_output_embeddings()

    without_adapter = tuned.disable_adapter if options.tuning == "lora" else nullcontext

    def score() -> None:
        tuned.eval()
        batch_losses(tuned, head, ids_BT, labels_BT)
        with without_adapter():
            batch_losses(tuned, head, ids_BT, labels_BT)

    def score_barely() -> None:
        tuned.eval()
        with torch.inference_mode():
            head_outputs(tuned, ids_BT, case.labelled)
            with without_adapter():
                head_outputs(tuned, ids_BT, case.labelled)

    def train() -> None:
        tuned.train()
        with precision(trainer):
            trainer.training_step(tuned, dict(batch), count)
        tuned.zero_grad()

    def train_barely() -> None:
        tuned.train()
        with precision(trainer):
            logits_BKV = head_outputs(tuned, ids_BT, case.labelled)
            targets = labels_BT[:, -case.labelled :].flatten()
            loss = nn.functional.cross_entropy(logits_BKV.flatten(0, 1).float(), targets)
        loss.backward()
        tuned.zero_grad()

    return {
        "scoring": {"ours": score, "floor": score_barely},
        "training": {"ours": train, "floor": train_barely},
    }


def measure(case: Case, options: argparse.Namespace, peak: float, device: str) -> dict[str, Any]:
    """Speed, share of the peak and ratio to the floor of each kind of work."""
    flops = counted(case, options.tuning)
    tokens = case.ids_BT.numel()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for kind, both in ways(case, options, work, device).items():
            seconds: dict[str, list[float]] = {name: [] for name in both}
            for number in range(-1, options.rounds):  # the first warms up
                for name in both if number % 2 else reversed(both):
                    spent = seconds_of(both[name])
                    if number >= 0:
                        seconds[name].append(spent)
            shares = {name: flops[kind] / float(np.median(rounds)) / peak for name, rounds in seconds.items()}
            results[kind] = {
                "tera_operations": flops[kind] / 1e12,
                "tokens_per_second": tokens / float(np.median(seconds["ours"])),
                "share_of_peak": shares,
                "ours_over_floor": as_json(ratio_interval(seconds["ours"], seconds["floor"], seed=options.seed)),
                "seconds": seconds,
            }
    gc.collect()  # trainers refer to themselves, and the next model wants the memory
    if device == "cuda":
        torch.cuda.empty_cache()
    return results


def make_case(name: str, config: PretrainedConfig, options: argparse.Namespace) -> Case:
    """A batch of random ids, the last part of each row labelled."""
    generator = torch.Generator().manual_seed(options.seed)
    ids_BT = torch.randint(0, config.vocab_size, (options.batch, options.tokens), generator=generator)
    labelled = max(2, math.floor(options.labelled * options.tokens))
    labels_BT = ids_BT.clone()
    labels_BT[:, :-labelled] = -100
    return Case(name, config, ids_BT, labels_BT, labelled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument(
        "--shapes", nargs="*", choices=list(SHAPES), default=[], help="random weights of these sizes too"
    )
    parser.add_argument("--batch", type=int, default=4, help="rows")
    parser.add_argument("--tokens", type=int, default=256, help="per row")
    parser.add_argument("--labelled", type=float, default=0.4, help="share of the tokens that carry loss")
    parser.add_argument("--tuning", choices=["lora", "full"], default="lora")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--matrix", type=int, help="rows and columns for the peak; default: 2048 on a CPU, else 8192")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-utilisation.json"))
    options = parser.parse_args()
    if options.rounds < 2 or options.tokens < 8 or options.batch < 1 or not 0 < options.labelled < 0.9:
        parser.error(
            "give --rounds of 2 or more, --tokens of 8 or more, --batch of 1 or more, --labelled between 0 and 0.9"
        )
    load_tokenizer(options.model)  # says it in one line if there is none
    torch.manual_seed(options.seed)
    device = default_device()
    peak = measured_peak(DTYPES[options.dtype], device, options.matrix or (2048 if device == "cpu" else 8192))

    configs = {Path(options.model).resolve().name: AutoConfig.from_pretrained(options.model)}
    configs |= {name: LlamaConfig(**LLAMA, **SHAPES[name], tie_word_embeddings=name in TIED) for name in options.shapes}
    table = Table("model", "work", "tokens/s", "share of the peak", "the floor's share", "ours over the floor")
    results = {}
    for name, config in configs.items():
        results[name] = measure(make_case(name, config, options), options, peak, device)
        for kind, found in results[name].items():
            shares, ratio = found["share_of_peak"], found["ours_over_floor"]
            table.add_row(
                name,
                kind,
                f"{found['tokens_per_second']:,.0f}",
                f"{shares['ours']:.1%}",
                f"{shares['floor']:.1%}",
                f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]",
            )
    console = Console()
    console.print(table)
    console.print(f"peak of {options.dtype}, measured: {peak / 1e12:,.2f} TFLOP/s")
    write_record(options, device, {"peak_tera_operations_per_second": peak / 1e12, "models": results})
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    run_script(main)
