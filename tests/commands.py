"""Command lines as documents and config files give them, read by the parsers of the commands themselves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rolewise.cli import grpo, reinforce, sft, warmup
from rolewise.cli.parser import build_parser, parse
from rolewise.jobs import options as jobs
from rolewise.jobs.eval_options import EvalOptions
from rolewise.jobs.sample_options import SampleOptions
from rolewise.jobs.search_options import SearchOptions, SolveOptions

OPTIONS = {
    "demo": jobs.DemoOptions,
    "eval": EvalOptions,
    "export": jobs.ExportOptions,
    "label": jobs.LabelOptions,
    "push": jobs.PushOptions,
    "relabel": jobs.RelabelOptions,
    "sample": SampleOptions,
    "search": SearchOptions,
    "solve": SolveOptions,
    "transfer": jobs.TransferOptions,
    "view": jobs.ViewOptions,
}


def read_command(arguments: Sequence[str]) -> Any:
    """The options of `rolewise ARGUMENTS`, without running it; for those that train the trainer's too, checked as
    before a run, for experiment its plan.

    Raises:
        InputError: as the command itself, for an option that is unknown or does not fit.
    """
    command, *rest = arguments
    if command == "experiment":
        from rolewise.cli.experiment import parse_arguments
        from rolewise.experiment.config import read_experiment
        from rolewise.experiment.plan import plan_experiment

        given = parse_arguments(rest)
        return plan_experiment(read_experiment(given.file, given.output))
    if command in ("grpo", "reinforce"):
        return {"grpo": grpo, "reinforce": reinforce}[command].read(rest)
    if command == "warmup":
        from rolewise.jobs.sft import check_training

        options, training = warmup.read(rest)
        check_training(training)
        return options, training
    if command != "sft":
        return parse(build_parser(f"rolewise {command}", "", OPTIONS[command]), OPTIONS[command], rest)[0]
    from rolewise.jobs.sft import check_training
    from rolewise.training.sft import WeightedSFTConfig

    names = [
        field.name
        for field in dataclasses.fields(WeightedSFTConfig)
        if field.init and field.name not in jobs.WITHOUT_EFFECT
    ]
    parser = build_parser("rolewise sft", "", jobs.SFTOptions)
    options, flags = parse(parser, jobs.SFTOptions, rest, other_names=names)
    training = sft._training_config(sft._training_parser(WeightedSFTConfig), options, flags)
    check_training(training)
    return options, training
