"""`rolewise grpo`."""

from rolewise.cli.train import TrainingCommand
from rolewise.options.training import GRPOOptions
from rolewise.training.settings import GRPOSettings

COMMAND = TrainingCommand(
    name="grpo",
    options=GRPOOptions,
    settings=GRPOSettings,
    config="rolewise.training.grpo:WeightedGRPOConfig",
    job="rolewise.jobs.grpo:JOB",
    description="""Train a model to call tools by reinforcement learning (GRPO), with its tokens weighted by region.

Every assistant turn that calls a tool yields a prompt and its reference; responses are sampled,
rewarded by rule and compared within each prompt's group. ResT, the default weighting, first stresses
tags, tool names and arguments, then increasingly the thought. After an interruption, rerun the
command to resume from the last checkpoint.

  rolewise grpo --model tuned/merged --data tool_calls.jsonl --weighting rest --output trained
""",
    epilog="""training:
  Every field of TRL's GRPOConfig is also an option (--help-all lists them). The most common:
  --learning-rate X               [1e-06; for LoRA 1e-5 is common]
  --num-generations N             responses per prompt [8]
  --max-completion-length N       maximum tokens per response [256]
  --per-device-train-batch-size N responses per micro-batch [8]
  --gradient-accumulation-steps N [1]
  --steps-per-generation N        micro-batches sampled at once [gradient_accumulation_steps]
  --loss-type NAME                dapo, grpo, bnpo, dr_grpo, cispo, sapo, luspo, vespo [dapo]
  --beta X                        weight of the KL term [0]
  --temperature X                 [1.0]
  --num-train-epochs X, --max-steps N
  --use-vllm BOOL                 sample with vLLM; --vllm-mode server or colocate
  --eval-strategy WHEN            no, steps or epoch [epoch, if there is eval_data]
  --save-steps N                  checkpoint interval; an interrupted run loses at most N steps [20]
  --seed N                        [42]
  --report-to NAME                wandb, tensorboard, … [none]
""",
    defaults={"save_steps": 20, "save_total_limit": 2, "logging_steps": 1, "report_to": "none", "call_format": "rlla"},
)

run = COMMAND.run
