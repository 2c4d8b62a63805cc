"""`rolewise warmup`."""

from collections.abc import Sequence
from typing import Any

from rolewise.cli.parser import build_parser, parse
from rolewise.cli.training_flags import flag_names, read_training, say_trained, shown_help, training_parser
from rolewise.jobs.options import MAX_LENGTH, WITHOUT_EFFECT
from rolewise.jobs.warmup_options import WarmupOptions

DESCRIPTION = """Teach a model functional tokens on paths of search trees (RFTT's first phase).

Of each tree the best right and the worst wrong path are joined by a verify step, which the model
writes, and the right branch mends the mistake; right paths alone are taken, too. The functional
tokens become tokens of the model, and it is fine-tuned on these samples. A run that was stopped
goes on where it was when the same command is given again.

  rolewise search --model Qwen/Qwen3-0.6B --data gsm8k_train.jsonl --limit 1000 --output searched
  rolewise warmup --model Qwen/Qwen3-0.6B --trees searched/trees.jsonl --data-only --output warm-data
  rolewise warmup --model Qwen/Qwen3-0.6B --data warm-data/conversations.jsonl --output warm
"""

EPILOG = """training:
  Every field of TRL's SFTConfig is an option too (--help-all lists them). Defaults are RFTT's:
  --learning-rate X               [7e-06]
  --num-train-epochs X            [10]
  --max-steps N                   instead of epochs
  --per-device-train-batch-size N [8]
  --gradient-accumulation-steps N [4; with the above 32 samples to a step on one device]
  --lr-scheduler-type NAME        [constant_with_warmup]
  --warmup-steps N                [10]
  --weight-decay X                [0.1]
  --adam-beta2 X                  [0.95]
  --save-steps N                  a stopped run loses so many steps at most [100]
  --seed N                        [42]
"""

HOUSE_DEFAULTS = [
    *("--save_steps=100", "--save_total_limit=2", "--report_to=none", "--logging_steps=1"),
    *("--learning_rate=7e-6", "--num_train_epochs=10", "--gradient_accumulation_steps=4"),
    *("--lr_scheduler_type=constant_with_warmup", "--warmup_steps=10", "--weight_decay=0.1", "--adam_beta2=0.95"),
]
"""Before the user's own flags: RFTT's published settings (arXiv 2502.13389), 32 samples to a step."""


def run(argv: Sequence[str]) -> None:
    """Parse, make the data, train, print."""
    parser = build_parser("rolewise warmup", DESCRIPTION, WarmupOptions, EPILOG)
    if shown_help(argv, parser, _training_parser):
        return

    from rolewise.cli.console import note, out, progress, quieten_libraries, show
    from rolewise.jobs.sft import check_training, fine_tune
    from rolewise.jobs.sft_data import load_training_data
    from rolewise.jobs.sft_report import roles_table
    from rolewise.jobs.warmup import check_training_options, make_warmup_data, quality_tables

    quieten_libraries()  # before the training options: TRL's own defaults already raise a warning
    options, training = read(argv)
    check_training(training)
    check_training_options(options)
    data = options.data
    if options.trees is not None:
        with progress() as bars:
            made = make_warmup_data(options, bars)
        for table in quality_tables(made.summary):
            show(table)
        for text in made.notes:
            note(f"note: {text}")
        if made.was_finished:
            note(f"{made.path}: was made already, with these settings and trees")
        out.print(f"data:   {made.conversations}", soft_wrap=True)
        data = str(made.conversations)
    if options.data_only:
        return
    sft = options.of_training(str(data))
    loaded = load_training_data(sft)
    for text in loaded.notes:
        note(f"note: {text}")
    with progress() as bars:
        result = fine_tune(sft, training, bars, loaded)
    show(roles_table(result.log))
    say_trained(result)


def read(argv: Sequence[str]) -> tuple[WarmupOptions, Any]:
    """The command's own options and the trainer's.

    Raises:
        InputError: for an option that is unknown or does not fit.
    """
    from rolewise.training.sft import WeightedSFTConfig

    parser = build_parser("rolewise warmup", DESCRIPTION, WarmupOptions, EPILOG)
    names = flag_names(WeightedSFTConfig, WITHOUT_EFFECT)
    options, flags = parse(parser, WarmupOptions, argv, other_names=names)
    ours = [f"--output_dir={options.output}", f"--weighting={options.weighting}"]
    ours += [f"--inv_tau={options.inv_tau}", f"--alpha={options.alpha}"]
    ours += [f"--max_length={options.max_length or MAX_LENGTH}", f"--trust_remote_code={options.trust_remote_code}"]
    return options, read_training(_training_parser(), [*HOUSE_DEFAULTS, *flags, *ours])


def _training_parser() -> Any:
    from rolewise.training.sft import WeightedSFTConfig

    return training_parser(WeightedSFTConfig, "rolewise warmup")
