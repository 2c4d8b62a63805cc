"""`rolewise reinforce`."""

from rolewise.cli.train import TrainingCommand
from rolewise.options.training import ReinforceOptions
from rolewise.training.settings import ReinforceSettings

COMMAND = TrainingCommand(
    name="reinforce",
    options=ReinforceOptions,
    settings=ReinforceSettings,
    config="rolewise.training.reinforce:ReinforceConfig",
    job="rolewise.jobs.reinforce:JOB",
    description="""Train a model with functional tokens by reinforcement learning through tree search (RFTT).

For each question, the current model searches a tree of steps, whose paths are judged by their
answers. The model learns from them by REINFORCE++: rewards minus the KL divergence from the initial
model, normalized over the batch, with clipped ratios. After an interruption, rerun the command to
resume from the last checkpoint.

  rolewise reinforce --model warm --data gsm8k_train.jsonl --numeric --output reinforced
""",
    epilog="""training:
  Every field of TRL's GRPOConfig is also an option (--help-all lists them). The most common:
  --learning-rate X               [5e-07; for LoRA 1e-5 is common]
  --num-generations N             paths per question [8]
  --max-completion-length N       maximum tokens per sampled answer; for a path of a tree,
                                  max_depth times step_tokens [256]
  --per-device-train-batch-size N paths per micro-batch [8]
  --gradient-accumulation-steps N [1]
  --steps-per-generation N        micro-batches rolled out at once [gradient_accumulation_steps]
  --num-iterations N              passes over each rollout [1]
  --beta X                        weight of the KL divergence [0.01]
  --epsilon X                     clipping range of the ratios [0.2]
  --temperature X, --top-p X, --top-k N   of steps and answers [1.0, 1.0, 0]
  --num-train-epochs X, --max-steps N
  --eval-strategy WHEN            no, steps or epoch [epoch, if there is eval_data]
  --save-steps N                  checkpoint interval; an interrupted run loses at most N steps [20]
  --seed N                        [42]
  --report-to NAME                wandb, tensorboard, … [none]
""",
    defaults={"save_steps": 20, "save_total_limit": 2, "logging_steps": 1, "report_to": "none"},
)

run = COMMAND.run
