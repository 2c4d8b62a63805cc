"""`rolewise sft`."""

from collections.abc import Sequence
from typing import Any

from rolewise.cli.parser import build_parser, parse
from rolewise.cli.training_flags import flag_names, read_training, say_trained, training_parser
from rolewise.jobs.options import MAX_LENGTH, WITHOUT_EFFECT, SFTOptions

DESCRIPTION = """Fine-tune a model on labelled data, each token weighted by its role.

RFT, the default, gives the group with the higher loss, reasoning as a rule, more weight, sample
by sample. Every log line carries loss, share of tokens and share of weight per role. A run that
was stopped goes on from its last checkpoint when the same command is given again.

  rolewise sft --model Qwen/Qwen3-0.6B --data labelled --output tuned
"""

EPILOG = """training:
  Every field of TRL's SFTConfig is an option too (--help-all lists them). The usual ones:
  --learning-rate X               [2e-05; for LoRA 1e-4 to 2e-4 is common]
  --num-train-epochs X            [3]
  --max-steps N                   instead of epochs
  --per-device-train-batch-size N [8]
  --gradient-accumulation-steps N [1]
  --gradient-checkpointing BOOL   less memory for more time [true]
  --logging-steps N               [10]
  --save-steps N                  a stopped run loses so many steps at most [100]
  --eval-strategy WHEN            no, steps or epoch [epoch, if there is data to measure on]
  --seed N                        [42]
  --report-to NAME                wandb, tensorboard, … [none]
"""

HOUSE_DEFAULTS = ["--save_steps=100", "--save_total_limit=2", "--report_to=none"]
"""Before the user's own flags, where ours differ from TRL's defaults."""


def run(argv: Sequence[str]) -> None:
    """Parse, train, print."""
    parser = build_parser("rolewise sft", DESCRIPTION, SFTOptions, EPILOG)
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        return

    from rolewise.training.sft import WeightedSFTConfig

    training_parser = _training_parser(WeightedSFTConfig)
    if "--help-all" in argv:
        training_parser.print_help()
        return
    names = flag_names(WeightedSFTConfig, WITHOUT_EFFECT)
    options, rest = parse(parser, SFTOptions, argv, other_names=names)

    from rolewise.cli.console import note, progress, quieten_libraries, show
    from rolewise.jobs.sft import check_training, fine_tune
    from rolewise.jobs.sft_data import load_training_data
    from rolewise.jobs.sft_report import roles_table

    quieten_libraries()  # before the training options: TRL's own defaults already raise a warning
    training = _training_config(training_parser, options, rest)
    check_training(training)
    data = load_training_data(options)
    for text in data.notes:
        note(f"note: {text}")
    with progress() as bars:
        result = fine_tune(options, training, bars, data)
    show(roles_table(result.log))
    show(roles_table(result.log, "eval_"))
    say_trained(result)


def _training_parser(config: type) -> Any:
    return training_parser(config, "rolewise sft")


def _training_config(parser: Any, options: SFTOptions, flags: list[str]) -> Any:
    measured = ["--eval_strategy=epoch"] if options.eval_data or options.eval_share else []
    ours = [f"--output_dir={options.output}", f"--weighting={options.weighting}"]
    ours += [f"--inv_tau={options.inv_tau}", f"--alpha={options.alpha}"]
    ours += [f"--format_weight={options.format_weight}"]
    ours += [f"--max_length={options.max_length or MAX_LENGTH}", f"--trust_remote_code={options.trust_remote_code}"]
    return read_training(parser, [*HOUSE_DEFAULTS, *measured, *flags, *ours])
