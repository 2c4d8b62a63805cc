"""The examples: every config goes through the parsers that read it, every plugin through the command line."""

import json
import re
import runpy
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from commands import read_command
from datasets import load_from_disk
from workbench import Workbench

from rolewise.cli.main import main
from rolewise.core.behaviour import find_behaviours
from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.experiment_runner.config import read_experiment
from rolewise.experiment_runner.inputs import check_inputs, missing_inputs

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FOR_ACCELERATE = ("fsdp2.yaml", "deepspeed_zero3.yaml")
BEHAVIOURS = "behaviours.yaml"
EXPERIMENTS = {
    "baselines.yaml": 60,
    "baselines_medium.yaml": 7,
    "baselines_small.yaml": 12,
    "rest.yaml": 21,
    "rest_small.yaml": 3,
    "shad_rft_table1.yaml": 14,
    "shad_rft_tau.yaml": 9,
    "small.yaml": 6,
}
"""Experiment → number of its runs."""
CONFIGS = sorted(
    str(path.relative_to(EXAMPLES))
    for path in [*EXAMPLES.glob("*.yaml"), *EXAMPLES.glob("grpo/*.yaml"), *EXAMPLES.glob("rftt/*.yaml")]
    if path.name not in (*FOR_ACCELERATE, BEHAVIOURS)
)


def launch_line(name: str) -> list[str]:
    """The words of the line that a config opens with."""
    return shlex.split((EXAMPLES / name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))


def arguments_of(words: list[str]) -> list[str]:
    """What follows `rolewise` on a command line."""
    return words[words.index("rolewise") + 1 :]


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples name one another from the repository's root."""
    monkeypatch.chdir(ROOT)


def test_every_config_is_looked_at() -> None:
    assert set(FOR_ACCELERATE) < {path.name for path in EXAMPLES.glob("*.yaml")}
    assert len(CONFIGS) >= 7


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_opens_with_the_line_that_runs_it_and_every_option_fits(name: str) -> None:
    arguments = arguments_of(launch_line(name))
    assert arguments[-2:] == ["--config", f"examples/{name}"]
    read_command(arguments)


def test_the_behaviours_of_one_s_own_do_for_every_command() -> None:
    behaviours = find_behaviours(str(EXAMPLES / "rftt" / BEHAVIOURS))
    assert {"verify", "refine", "output"} <= {behaviour.name for behaviour in behaviours}
    asked = [name for name in behaviours.first if behaviours[name].prompt is not None]
    assert asked
    assert behaviours["output"].ends
    lines = (EXAMPLES / "rftt" / BEHAVIOURS).read_text(encoding="utf-8").splitlines()
    words = next(shlex.split(line.removeprefix("#")) for line in lines if "rolewise " in line)
    assert read_command(arguments_of(words)).behaviours == f"examples/rftt/{BEHAVIOURS}"


@pytest.mark.usefixtures("in_root", "registries")
def test_an_experiment_opens_with_the_line_that_runs_it_and_plans_as_many_runs_as_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = EXAMPLES / "experiments"
    assert {path.name for path in folder.glob("*.yaml")} == EXPERIMENTS.keys()
    for name, count in EXPERIMENTS.items():
        arguments = arguments_of(launch_line(f"experiments/{name}"))
        assert arguments == ["experiment", f"examples/experiments/{name}"]
        planned = read_command(arguments)
        assert sum(run.seed is not None for run in planned.runs) == count
        assert main([*arguments, "--plan"]) == 0
        assert f"{count} runs" in capsys.readouterr().out


def test_the_inputs_of_the_small_experiments_are_those_that_they_read(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = next(
        line.removeprefix("#").split("python ")[1].strip()
        for line in (EXAMPLES / "experiments" / "small.yaml").read_text().splitlines()
        if "python " in line
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr("rolewise.jobs.demo_model.fetch_demo_model", lambda folder: str(bench.model))
    runpy.run_path(str(ROOT / script), run_name="__main__")
    for name in ("small.yaml", "rest_small.yaml"):
        experiment = read_experiment(EXAMPLES / "experiments" / name)
        assert missing_inputs(experiment) == []
        check_inputs(experiment)


@pytest.mark.usefixtures("registries")
def test_the_inputs_of_the_baselines_are_those_that_they_read(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tmp_path / "chat.jsonl"
    records = [{"instruction": f"What is {n} and 1?", "input": "", "output": str(n + 1)} for n in range(20)]
    chat.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    script = "examples/experiments/baselines_inputs.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rolewise.jobs.demo_model.fetch_demo_model", lambda folder: str(bench.model))
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")  # of a plugin
    for name in ("baselines.yaml", "baselines_medium.yaml", "baselines_small.yaml"):
        lines = (EXAMPLES / "experiments" / name).read_text(encoding="utf-8").splitlines()
        words = next(line.removeprefix("#").split("python ")[1].split() for line in lines if "python " in line)
        assert words[:2] == [script, "CHAT"]
        smaller = ["--train", "9", "--held-out", "6"]
        monkeypatch.setattr(sys, "argv", [script, str(chat), *words[2:], *smaller])
        runpy.run_path(str(ROOT / script), run_name="__main__")
        experiment = read_experiment(EXAMPLES / "experiments" / name)
        assert missing_inputs(experiment) == []
        check_inputs(replace(experiment, models={"tiny": str(bench.model)}))


@pytest.mark.parametrize("option", ["learning_rat: 1.0", "rank: many", "num_train_epochs: many", "lora: 1"])
def test_an_option_that_does_not_fit_is_seen(tmp_path: Path, option: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"model: m\ndata: d\noutput: o\n{option}\n")
    with pytest.raises(InputError, match=option.split(":")[0]):
        read_command(["sft", "--config", str(config)])


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("name", FOR_ACCELERATE)
def test_a_config_of_accelerate_is_one(name: str) -> None:
    words = launch_line(name)
    assert words[:4] == ["accelerate", "launch", "--config_file", f"examples/{name}"]
    launch = launch_command_parser().parse_args(words[2:])
    assert (launch.module, launch.training_script) == (True, "rolewise")
    assert launch.training_script_args == arguments_of(words)
    read_command(launch.training_script_args)
    config = load_config_from_file(launch.config_file)
    assert config.distributed_type.value == ("FSDP" if "fsdp" in name else "DEEPSPEED")
    known = vars(launch)
    for key in config.fsdp_config | config.deepspeed_config:
        assert key in known or key == "fsdp_version", f"{key} is no option of accelerate launch"


@pytest.mark.usefixtures("registries")
def test_the_plugins_through_the_command_line(bench: Workbench, tmp_path: Path, capsys) -> None:
    plugins = EXAMPLES / "extending"
    data, labelled, tuned = tmp_path / "solutions.jsonl", tmp_path / "labelled", tmp_path / "tuned"
    records = [{"question": f"{n} + 1?", "steps": ["one more"], "answer": n + 1} for n in range(10, 16)]
    data.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    arguments = ["label", "--model", bench.model, "--data", data, "--output", labelled, "--method", "names-and-numbers"]
    arguments += ["--plugin", f"{plugins / 'my_format.py'},{plugins / 'my_labeller.py'}"]
    assert main([str(argument) for argument in arguments]) == 0
    row = load_from_disk(str(labelled))[0]
    reasoning = [
        row["text"][start:end]
        for start, end, role in zip(row["char_start"], row["char_end"], row["token_roles"], strict=True)
        if role == Role.REASONING
    ]
    assert re.fullmatch(r"\s*Answer:?\s*11", "".join(reasoning))

    arguments = ["sft", "--model", bench.model, "--data", labelled, "--output", tuned, "--weighting", "turn-decay"]
    arguments += ["--plugin", plugins / "my_weighting.py", "--max-steps", 1, "--generations", 0]
    assert main([str(argument) for argument in arguments]) == 0
    assert "weight_reasoning" in (tuned / "log.jsonl").read_text(encoding="utf-8")
    assert "turn-decay" in capsys.readouterr().err
