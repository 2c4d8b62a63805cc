"""`rolewise grpo`."""

from collections.abc import Sequence
from typing import Any

from rolewise.cli.parser import build_parser, parse
from rolewise.cli.training_flags import flag_names, read_training, say_trained, shown_help, training_parser
from rolewise.jobs.grpo_options import OF_THE_TRAINER, GRPOOptions
from rolewise.jobs.options import WITHOUT_EFFECT

DESCRIPTION = """Train a model to call tools by reinforcement learning (GRPO), its tokens weighted by region.

Every assistant turn that calls a tool is a prompt with a reference; responses are sampled, rewarded
by rule and compared within each prompt's group. ResT, the default, weights tags, tool names and
arguments first and the thought more and more. A run that was stopped goes on from its last
checkpoint when the same command is given again.

  rolewise grpo --model tuned/merged --data tool_calls.jsonl --weighting rest --output trained
"""

EPILOG = """training:
  Every field of TRL's GRPOConfig is an option too (--help-all lists them). The usual ones:
  --learning-rate X               [1e-06; for LoRA 1e-5 is common]
  --num-generations N             responses to a prompt [8]
  --max-completion-length N       tokens of a response at most [256]
  --per-device-train-batch-size N responses to a micro-batch [8]
  --gradient-accumulation-steps N [1]
  --steps-per-generation N        micro-batches that are sampled at once [gradient_accumulation_steps]
  --loss-type NAME                dapo, grpo, bnpo, dr_grpo, cispo, sapo, luspo, vespo [dapo]
  --beta X                        weight of the KL term [0]
  --temperature X                 [1.0]
  --num-train-epochs X, --max-steps N
  --use-vllm BOOL                 sample with vLLM, --vllm-mode server or colocate
  --eval-strategy WHEN            no, steps or epoch [epoch, if there is eval_data]
  --save-steps N                  a stopped run loses so many steps at most [20]
  --seed N                        [42]
  --report-to NAME                wandb, tensorboard, … [none]
"""

HOUSE_DEFAULTS = ["--save_steps=20", "--save_total_limit=2", "--logging_steps=1", "--report_to=none"]
"""Before the user's own flags, where ours differ from TRL's defaults."""


def run(argv: Sequence[str]) -> None:
    """Parse, train, print."""
    parser = build_parser("rolewise grpo", DESCRIPTION, GRPOOptions, EPILOG)
    if shown_help(argv, parser, _training_parser):
        return

    from rolewise.cli.console import note, progress, quieten_libraries, show
    from rolewise.jobs.grpo import train_grpo
    from rolewise.jobs.grpo_data import load_prompts
    from rolewise.jobs.grpo_report import regions_table, rewards_table

    quieten_libraries()  # before the training options: TRL's own defaults already raise a warning
    options, training = read(argv)
    data = load_prompts(options)
    for text in data.notes:
        note(f"note: {text}")
    with progress() as bars:
        result = train_grpo(options, training, bars, data, say=lambda text: note(f"note: {text}"))
    show(rewards_table(result.log))
    show(regions_table(result.log))
    say_trained(result)


def read(argv: Sequence[str]) -> tuple[GRPOOptions, Any]:
    """The command's own options and the trainer's, checked.

    Raises:
        InputError: for an option that is unknown or does not fit.
    """
    from rolewise.core.options import split_list
    from rolewise.core.plugins import load_plugins
    from rolewise.jobs.grpo import check_grpo
    from rolewise.training.grpo import WeightedGRPOConfig

    decided = {*WITHOUT_EFFECT, *OF_THE_TRAINER}
    names = flag_names(WeightedGRPOConfig, decided)
    parser = build_parser("rolewise grpo", DESCRIPTION, GRPOOptions, EPILOG)
    options, flags = parse(parser, GRPOOptions, argv, other_names=names)
    load_plugins(split_list(options.plugin or ""))  # a plugin's weighting has a name only then
    measured = ["--eval_strategy=epoch"] if options.eval_data else []
    ours = [f"--output_dir={options.output}"]
    ours += [f"--{name}={value}" for name in OF_THE_TRAINER if (value := getattr(options, name)) is not None]
    training = read_training(_training_parser(), [*HOUSE_DEFAULTS, *measured, *flags, *ours])
    check_grpo(options, training)
    return options, training


def _training_parser() -> Any:
    from rolewise.training.grpo import WeightedGRPOConfig

    return training_parser(WeightedGRPOConfig, "rolewise grpo")
