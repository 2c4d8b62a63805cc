"""`rolewise reinforce`."""

from collections.abc import Sequence
from typing import Any

from rolewise.cli.parser import build_parser, parse
from rolewise.cli.training_flags import flag_names, read_training, say_trained, shown_help, training_parser
from rolewise.jobs.options import WITHOUT_EFFECT
from rolewise.jobs.reinforce_options import OF_THE_TRAINER, ReinforceOptions

DESCRIPTION = """Train a model with functional tokens by reinforcement learning through tree search (RFTT).

For each question a tree of steps is searched with the model as it is, its paths are judged by their
answers, and the model learns from them by REINFORCE++: rewards less the KL divergence to the first
model, normalised over the batch, with clipped ratios. A run that was stopped goes on from its last
checkpoint when the same command is given again.

  rolewise reinforce --model warm --data gsm8k_train.jsonl --numeric --output reinforced
"""

EPILOG = """training:
  Every field of TRL's GRPOConfig is an option too (--help-all lists them). The usual ones:
  --learning-rate X               [5e-07; for LoRA 1e-5 is common]
  --num-generations N             paths to a question [8]
  --max-completion-length N       tokens of a sampled answer at most; of a path of a tree it is
                                  max_depth times step_tokens [256]
  --per-device-train-batch-size N paths to a micro-batch [8]
  --gradient-accumulation-steps N [1]
  --steps-per-generation N        micro-batches that are rolled out at once [gradient_accumulation_steps]
  --num-iterations N              passes over each rollout [1]
  --beta X                        weight of the KL divergence [0.01]
  --epsilon X                     where ratios are clipped [0.2]
  --temperature X, --top-p X, --top-k N   of steps and answers [1.0, 1.0, 0]
  --num-train-epochs X, --max-steps N
  --eval-strategy WHEN            no, steps or epoch [epoch, if there is eval_data]
  --save-steps N                  a stopped run loses so many steps at most [20]
  --seed N                        [42]
  --report-to NAME                wandb, tensorboard, … [none]
"""

HOUSE_DEFAULTS = ["--save_steps=20", "--save_total_limit=2", "--logging_steps=1", "--report_to=none"]
"""Before the user's own flags, where ours differ from TRL's defaults."""


def run(argv: Sequence[str]) -> None:
    """Parse, train, print."""
    parser = build_parser("rolewise reinforce", DESCRIPTION, ReinforceOptions, EPILOG)
    if shown_help(argv, parser, _training_parser):
        return

    from rolewise.cli.console import note, progress, quieten_libraries, show
    from rolewise.jobs.reinforce import reinforce
    from rolewise.jobs.reinforce_data import load_questions
    from rolewise.jobs.reinforce_report import behaviours_table, numbers_table

    quieten_libraries()  # before the training options: TRL's own defaults already raise a warning
    options, training = read(argv)
    data = load_questions(options)
    for text in data.notes:
        note(f"note: {text}")
    with progress() as bars:
        result = reinforce(options, training, bars, data, say=lambda text: note(f"note: {text}"))
    show(numbers_table(result.log))
    show(behaviours_table(result.log))
    say_trained(result)


def read(argv: Sequence[str]) -> tuple[ReinforceOptions, Any]:
    """The command's own options and the trainer's, checked.

    Raises:
        InputError: for an option that is unknown or does not fit.
    """
    from rolewise.core.options import split_list
    from rolewise.core.plugins import load_plugins
    from rolewise.jobs.reinforce import check_options
    from rolewise.training.reinforce import ReinforceConfig

    decided = {*WITHOUT_EFFECT, *OF_THE_TRAINER}
    names = flag_names(ReinforceConfig, decided)
    parser = build_parser("rolewise reinforce", DESCRIPTION, ReinforceOptions, EPILOG)
    options, flags = parse(parser, ReinforceOptions, argv, other_names=names)
    load_plugins(split_list(options.plugin or ""))  # a plugin's value has a name only then
    measured = ["--eval_strategy=epoch"] if options.eval_data else []
    ours = [f"--output_dir={options.output}", *(f"--{name}={getattr(options, name)}" for name in OF_THE_TRAINER)]
    training = read_training(_training_parser(), [*HOUSE_DEFAULTS, *measured, *flags, *ours])
    check_options(options, training)
    return options, training


def _training_parser() -> Any:
    from rolewise.training.reinforce import ReinforceConfig

    return training_parser(ReinforceConfig, "rolewise reinforce")
