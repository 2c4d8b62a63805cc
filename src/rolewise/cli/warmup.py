"""`rolewise warmup`."""

from collections.abc import Sequence

from rolewise.cli.train import TrainingCommand, finish
from rolewise.options.training import WarmupOptions
from rolewise.training.settings import SFTSettings

COMMAND = TrainingCommand(
    name="warmup",
    options=WarmupOptions,
    settings=SFTSettings,
    config="rolewise.training.sft:WeightedSFTConfig",
    job="rolewise.jobs.sft:JOB",
    description="""Teach a model functional tokens from paths of search trees (RFTT's first phase).

From each tree, the worst wrong path and the best right path are joined by a verify step, which
the model writes; the right branch then corrects the mistake. Right paths alone are used, too.
The functional tokens are added to the model, which is fine-tuned on these samples. After an
interruption, rerun the command to resume.

  rolewise search --model Qwen/Qwen3-0.6B --data gsm8k_train.jsonl --limit 1000 --output searched
  rolewise warmup --model Qwen/Qwen3-0.6B --trees searched/trees.jsonl --data-only --output warm-data
  rolewise warmup --model Qwen/Qwen3-0.6B --data warm-data/conversations.jsonl --output warm
""",
    epilog="""training:
  Every field of TRL's SFTConfig is also an option (--help-all lists them). Defaults are RFTT's:
  --learning-rate X               [7e-06]
  --num-train-epochs X            [10]
  --max-steps N                   instead of epochs
  --per-device-train-batch-size N [8]
  --gradient-accumulation-steps N [4; with the above, 32 samples per step on one device]
  --lr-scheduler-type NAME        [constant_with_warmup]
  --warmup-steps N                [10]
  --weight-decay X                [0.1]
  --adam-beta2 X                  [0.95]
  --save-steps N                  checkpoint interval; an interrupted run loses at most N steps [100]
  --seed N                        [42]
""",
    # RFTT's published settings (arXiv 2502.13389), 32 samples per step.
    defaults={
        **{"save_steps": 100, "save_total_limit": 2, "report_to": "none", "logging_steps": 1},
        **{"learning_rate": 7e-6, "num_train_epochs": 10, "gradient_accumulation_steps": 4},
        **{"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 10, "weight_decay": 0.1, "adam_beta2": 0.95},
        **{"weighting": "none", "max_length": None},
    },
)


def run(argv: Sequence[str]) -> None:
    """Parse, make the data, train, print."""
    if COMMAND.shows_help(argv):
        return

    from rolewise.cli.console import note, notes, out, progress, quieten_libraries, show
    from rolewise.jobs.sft import JOB
    from rolewise.jobs.warmup import check_training_options, make_warmup_data, quality_tables

    quieten_libraries()  # before reading the trainer's options: TRL's own defaults already raise a warning
    options, training = COMMAND.read(argv)
    JOB.check(options, training)
    check_training_options(options, training)
    data = options.data
    if options.trees is not None:
        with progress() as bars:
            made = make_warmup_data(options, bars)
        for table in quality_tables(made.summary):
            show(table)
        notes(made.notes)
        if made.was_finished:
            note(f"{made.path}: already built with these settings and trees")
        out.print(f"data:   {made.conversations}", soft_wrap=True)
        data = str(made.conversations)
    if not options.data_only:
        finish(JOB, options.of_training(str(data)), training)
