"""`rolewise sft`."""

from rolewise.cli.train import TrainingCommand
from rolewise.options.training import SFTOptions
from rolewise.training.settings import SFTSettings

COMMAND = TrainingCommand(
    name="sft",
    options=SFTOptions,
    settings=SFTSettings,
    config="rolewise.training.sft:WeightedSFTConfig",
    job="rolewise.jobs.sft:JOB",
    description="""Fine-tune a model on labelled data, with each token weighted by its role.

RFT, the default, gives more weight to the group with the higher loss, usually reasoning, sample by
sample. Every log line has the loss, share of tokens and share of weight per role. After an
interruption, rerun the command to resume from the last checkpoint.

  rolewise sft --model Qwen/Qwen3-0.6B --data labelled --output tuned
""",
    epilog="""training:
  Every field of TRL's SFTConfig is also an option (--help-all lists them). The most common:
  --learning-rate X               [2e-05; for LoRA 1e-4 to 2e-4 is common]
  --num-train-epochs X            [3]
  --max-steps N                   instead of epochs
  --per-device-train-batch-size N [8]
  --gradient-accumulation-steps N [1]
  --gradient-checkpointing BOOL   trade time for memory [true]
  --logging-steps N               [10]
  --save-steps N                  checkpoint interval; an interrupted run loses at most N steps [100]
  --eval-strategy WHEN            no, steps or epoch [epoch, if there is evaluation data]
  --seed N                        [42]
  --report-to NAME                wandb, tensorboard, … [none]
""",
    defaults={"save_steps": 100, "save_total_limit": 2, "report_to": "none", "max_length": None},
)

run = COMMAND.run
