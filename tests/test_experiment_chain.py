"""Experiments whose methods go on from one another: samples, fine-tuning, reinforcement learning; each step once."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import InProcess
from safetensors.torch import load_file
from workbench import Workbench

from rolewise.core.errors import InputError
from rolewise.data.readers import write_conversations
from rolewise.experiment_runner.config import read_experiment
from rolewise.experiment_runner.inputs import check_inputs
from rolewise.experiment_runner.plan import plan_experiment, plan_table
from rolewise.experiment_runner.run import ExperimentResult, run_experiment
from rolewise.experiment_runner.runs import Plan, Run, reference_row
from rolewise.generator import generate

BASE: dict[str, Any] = {
    "output": "out",
    "models": {"one": "owner/one"},
    "data": {"train": "train.jsonl"},
    "methods": ["sft", "sft+grpo", "sft+rest"],
}
PLUGIN = """
from rolewise import register_checker

register_checker("anything", lambda question, answers: [True] * len(answers))
"""


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "chain.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False), encoding="utf-8")
    return path


def plan(folder: Path, **changes: Any) -> Plan:
    return plan_experiment(read_experiment(written(folder, **changes)))


def row(planned: Plan, method: str, seed: int | None = None) -> list[Run]:
    return [run for run in planned.runs if run.method == method and seed in (None, run.seed)]


def test_methods_go_on_from_one_fine_tuning_per_model_seed_and_setting(tmp_path: Path) -> None:
    planned = plan(
        tmp_path,
        models=["a/one", "b/two"],
        methods=["sft+rest", "sft", "sft+grpo", "shad-rft+rest"],
        seeds=[0, 1],
        training={"learning_rate": [1e-5, 1e-4], "max_steps": 3},
        grpo={"learning_rate": 1e-6, "max_steps": 5},
    )
    bases = {run.directory: run.after for run in planned.runs if run.method in ("sft+rest", "sft+grpo")}
    assert len(bases) == 2 * 2 * 2 * 2
    own = {run.directory: run for run in row(planned, "sft")}
    assert {base.directory for base in bases.values() if base} == own.keys()
    for directory, base in bases.items():
        assert base == own[base.directory], directory
        assert directory.rpartition("/")[2] == f"seed-{base.seed}"
    for run in row(planned, "sft+rest"):
        assert (run.command, run.training["weighting"], run.training["learning_rate"]) == ("grpo", "rest", 1e-6)
        assert (run.after.training["weighting"], run.after.training["max_steps"]) == ("none", 3)
        assert run.setting == run.after.setting != ""
        assert reference_row(planned, run, "sft") == run.after.row
    # That of shad-rft is no row, and yet trained once for each.
    assert len(planned.only_continued) == 8
    assert {base.training["weighting"] for base in planned.only_continued} == {"rft"}


def test_equal_fine_tunings_are_one_however_they_are_spelled(tmp_path: Path) -> None:
    own = {"name": "mine", "weighting": "none", "lora": True, "grpo": {"weighting": "rest-entropy"}}
    planned = plan(tmp_path, methods=["sft", {"name": "sft+rest", "inv_tau": 0.3}, own], seeds=[0])
    [tuned], [rest], [mine] = (row(planned, name) for name in ("sft", "sft+rest", "mine"))
    assert rest.after == mine.after == tuned
    assert (mine.training["weighting"], planned.only_continued) == ("rest-entropy", [])
    alone = plan(tmp_path, methods=["sft+rest", "rest"], seeds=[0])
    assert [(run.after, run.labels, run.setting) for run in row(alone, "rest")] == [(None, None, "")]
    assert alone.runs[0].after.directory == tuned.directory, "so that sft, added later, is there already"


def test_options_go_to_the_steps_that_read_them(tmp_path: Path) -> None:
    planned = plan(
        tmp_path,
        methods=[
            "sft",
            "sft+grpo",
            {"name": "sft+rest", "grpo": {"ramp": ["linear", "cosine"]}},
            "sft+rest-official",
            "rest-static",
        ],
        training={"inv_tau": [0, 1], "alpha": 0.2},
        grpo={"ramp_length": 0.5, "static_step": 3, "beta": [0.0, 0.1], "reward": "toolrl"},
    )
    assert len(row(planned, "sft")) == 1, "inv_tau is RFT's alone"
    options = {method: row(planned, method)[0].training for method in ("sft+grpo", "sft+rest-official", "rest-static")}
    assert all(options[method]["reward"] == "toolrl" for method in options)
    assert [("ramp_length" in o, "static_step" in o) for o in options.values()] == [
        (False,) * 2,
        (False,) * 2,
        (True,) * 2,
    ]
    assert [run.setting for run in row(planned, "sft+rest")] == [
        f"grpo.beta={beta}, grpo.ramp={ramp}" for beta in ("0", "0.1") for ramp in ("linear", "cosine")
    ]
    assert [reference_row(planned, run, "sft+grpo")[2] for run in row(planned, "sft+rest")] == [
        "grpo.beta=0",
        "grpo.beta=0",
        "grpo.beta=0.1",
        "grpo.beta=0.1",
    ]


def test_samples_are_shared_and_labelled_by_rules(tmp_path: Path) -> None:
    planned = plan(
        tmp_path, methods=["rsft", "rsft+rest", "shad-rft", "sft"], seeds=[0, 1], sample={"samples": 8}, data="d.jsonl"
    )
    samplings = {run.labels.sampling.directory for run in planned.runs if run.labels and run.labels.sampling}
    assert len(samplings) == 1
    labels = {run.method: run.labels for run in planned.runs}
    assert labels["rsft"] == labels["rsft+rest"]
    assert (labels["rsft"].options["method"], labels["rsft"].sampling.options["samples"]) == ("regex", 8)
    assert json.loads(labels["rsft"].options["data"]) == [f"out/{samplings.pop()}/conversations.jsonl"]
    assert labels["sft"] == labels["shad-rft"] != labels["rsft"]
    assert labels["sft"].sampling is None


def test_the_plan_counts_fine_tunings_that_are_no_rows(tmp_path: Path) -> None:
    experiment = read_experiment(written(tmp_path, methods=["sft+grpo", "sft+rest"], seeds=[0, 1]))
    table = plan_table(experiment, plan_experiment(experiment))
    assert [line[1] for line in table.rows] == ["SFT → GRPO", "SFT → ResT"]
    assert table.note.startswith("4 runs, 1 labelled data set; 2 fine-tunings more, which runs continue from;")


MISTAKES = [
    ({"methods": ["sft+rst"]}, r"methods\[0\]: 'sft\+rst' is no method; did you mean sft\+rest"),
    ({"methods": ["rest+sft"]}, r"methods\[0\]: 'rest\+sft' is no method"),
    ({"methods": [{"name": "sft", "grpo": {"beta": 1}}]}, r"methods\[0\].grpo: sft has no such step"),
    ({"methods": [{"name": "sft", "sample": {"samples": 1}}]}, r"methods\[0\].sample: sft has no such step"),
    (
        {"methods": [{"name": "rest", "beta": 1}]},
        r"methods\[0\].beta: rest has no fine-tuning; give .* methods\[0\].grpo",
    ),
    ({"methods": [{"name": "sft+rest", "ramp": "step"}]}, r"give it as methods\[0\].grpo.ramp"),
    ({"methods": [{"name": "rsft", "samples": 2}]}, r"give it as methods\[0\].sample.samples"),
    ({"methods": [{"name": "rest", "label": {"method": "shad"}}]}, r"methods\[0\].label.method: rest has its own"),
    ({"methods": [{"name": "rest", "grpo": {"weighting": "none"}}]}, r"methods\[0\].*: rest has its own"),
    (
        {"methods": [{"name": "my", "grpo": {"weighting": "rft"}}]},
        r"methods\[0\].grpo.weighting 'rft' does not go with roles",
    ),
    ({"methods": [{"name": "my", "grpo": {"weighting": "rest"}, "sample": {}}]}, "methods.0..weighting is missing"),
    ({"grpo": {"weighting": "rest"}}, "grpo.weighting: the method sets it"),
    ({"grpo": {"max_length": 3}}, "grpo.max_length: give it under data"),
    ({"grpo": {"seed": 3}}, "grpo.seed: give seeds"),
    ({"grpo": {"temperatur": 3}}, "grpo.temperatur: .*did you mean temperature"),
    ({"grpo": {"temperature": 0}}, "grpo.temperature is 0"),
    ({"grpo": {"granularity": "fine"}}, "grpo.granularity is part of a reward now"),
    ({"grpo": {"num_generations": 3}}, r"methods\[1\].grpo: generation_batch_size .* divisible by num_generations"),
    ({"sample": {"temperature": 0}, "methods": ["rsft"]}, r"methods\[0\].sample.samples is 4, but at temperature 0"),
    ({"sample": {"check": "guess"}, "methods": ["rsft"]}, "sample.check 'guess' is not known"),
    ({"launch": {"grop": "torchrun"}}, "launch.grop: .*did you mean grpo"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line_that_names_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_batches_are_the_launchers_to_know(tmp_path: Path) -> None:
    one_response_each = {"per_device_train_batch_size": 1, "num_generations": 8, "gradient_accumulation_steps": 3}
    with pytest.raises(InputError, match="divisible"):
        plan(tmp_path, grpo=one_response_each)
    planned = plan(tmp_path, grpo=one_response_each, launch={"grpo": "torchrun --nproc_per_node 8"})
    assert planned.runs[-1].training["per_device_train_batch_size"] == 1


def test_data_that_a_method_cannot_use_is_refused_before_anything_runs(bench: Workbench, tmp_path: Path) -> None:
    data = tmp_path / "chat.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n' * 2)
    common = {"models": {"tiny": str(bench.model)}, "data": str(data)}
    for method, said in (
        ("rest", "no assistant turn calls a tool"),
        ("rsft", "no reference that check calls can read"),
    ):
        with pytest.raises(InputError, match=f"data.train: .*{said}"):
            check_inputs(read_experiment(written(tmp_path, methods=[method], **common)))
    check_inputs(read_experiment(written(tmp_path, methods=["sft"], **common)))
    write_conversations(generate(2, seed=0), data)
    check_inputs(read_experiment(written(tmp_path, methods=["rest", "rsft"], **common)))


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        ({"bfcl:singel_turn": {}}, "singel_turn"),
        ({"stable_toolbench": {}}, "needs a judge"),
        ({"stable_toolbench": {"judge": {"url": "http://localhost:1/v1", "modl": "m"}}}, "judge has no option 'modl'"),
        ({"gsm8k:main": {}}, "takes nothing after its name"),
        ({"short_answrs": {}}, "is not known"),
    ],
)
def test_what_a_suite_wants_to_be_told_is_looked_at_before_anything_runs(
    bench: Workbench, tmp_path: Path, suites: dict[str, Any], message: str
) -> None:
    (tmp_path / "plugin.py").write_text("")
    path = written(
        tmp_path,
        models={"tiny": str(bench.model)},
        data=str(bench.data),
        methods=["sft"],
        measure={"suites": suites},
        plugin=str(tmp_path / "plugin.py"),
    )
    with pytest.raises(InputError, match=f"measure.suites.{next(iter(suites))}: .*{message}"):
        check_inputs(read_experiment(path))
    path.write_text(path.read_text().replace(next(iter(suites)), "bfcl:single_turn+live"))
    check_inputs(read_experiment(path))


def small(folder: Path, bench: Workbench, **changes: Any) -> Path:
    """Samples, labels, two fine-tunings and three reinforcements of a tiny model."""
    write_conversations(generate(4, seed=1, formats=("rlla",)), folder / "data.jsonl")
    write_conversations(generate(2, seed=3, split="eval", formats=("rlla",)), folder / "held-out.jsonl")
    (folder / "checker.py").write_text(PLUGIN)
    common = {"max_steps": 2, "logging_steps": 1, "use_cpu": True, "gradient_checkpointing": False}
    content = {
        "output": str(folder / "out"),
        "models": {"tiny": str(bench.model)},
        "data": {"train": str(folder / "data.jsonl"), "max_length": 512},
        "sample": {"samples": 32, "check": "anything", "max_new_tokens": 48, "temperature": 4.0},
        "training": {**common, "learning_rate": 1e-2, "per_device_train_batch_size": 2},
        "grpo": {**common, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 8},
        "methods": ["sft", "sft+grpo", "sft+rest", "rest"],
        "measure": {"role_losses": str(folder / "held-out.jsonl"), "untrained": False},
        "plugin": str(folder / "checker.py"),
    }
    return written(folder, **content | changes)


@pytest.fixture(scope="module")
def finished(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExperimentResult, InProcess]:
    folder = tmp_path_factory.mktemp("chain")
    commands = InProcess()
    path = small(folder, bench)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rolewise.experiment_runner.run.run_command", commands)
        result = run_experiment(read_experiment(path))
    return path, result, commands


def test_a_fine_tuning_is_trained_and_merged_once_for_all_that_go_on_from_it(finished) -> None:
    _, result, commands = finished
    assert result.failures == []
    assert commands.done == ["label", "sft", "measuring", "merging", "grpo", "measuring", *["grpo", "measuring"] * 2]
    config = yaml.safe_load((result.path / "runs/tiny/sft+rest/default/seed-0/train/config.yaml").read_text())
    assert config["model"] == str(result.path / "runs/tiny/sft/default/seed-0/merged")
    assert (config["weighting"], config["seed"]) == ("rest", 0)


def test_the_merged_model_is_the_fine_tuned_one(finished, bench: Workbench) -> None:
    _, result, _ = finished
    run = result.path / "runs/tiny/sft/default/seed-0"
    merged, base = load_file(run / "merged/model.safetensors"), load_file(bench.model / "model.safetensors")
    adapter = load_file(run / "train/adapter_model.safetensors")
    config = json.loads((run / "train/adapter_config.json").read_text())
    name = "model.layers.0.mlp.up_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    expected = base[f"{name}.weight"] + config["lora_alpha"] / config["r"] * b @ a
    assert (merged[f"{name}.weight"] - expected).abs().max() < 1e-6
    assert (merged[f"{name}.weight"] - base[f"{name}.weight"]).abs().max() > 1e-4


def test_rows_measures_and_curves_are_there(finished) -> None:
    _, result, _ = finished
    numbers = json.loads((result.path / "results.json").read_text())
    assert [line["method"] for line in numbers["rows"]] == ["sft", "sft+grpo", "sft+rest", "rest"]
    assert all("loss: reasoning" in line["measures"] for line in numbers["rows"])
    assert [run["after"] for run in numbers["runs"]] == [None, *["runs/tiny/sft/default/seed-0"] * 2, None]
    plot = (result.path / "reward.svg").read_text()
    assert all(name in plot for name in ("SFT → GRPO", "SFT → ResT", "tiny: reward", "tiny: entropy of the policy"))
    assert "reward" not in (result.path / "loss_by_role.svg").read_text()
    assert "SFT → ResT" in (result.path / "table.md").read_text()


def test_a_method_more_takes_up_what_is_there(finished, in_process: InProcess) -> None:
    path, result, _ = finished
    before = {p: p.read_bytes() for p in result.path.glob("runs/tiny/*/*/*/train/run.json")}
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "methods": ["sft+rest-official", *content["methods"], "rsft"]}))
    again = run_experiment(read_experiment(path))
    assert again.failures == []
    assert in_process.done == ["grpo", "measuring", "sample", "label", "sft", "measuring"]
    assert all(p.read_bytes() == content for p, content in before.items())
    kept = result.path.glob("samples/tiny/anything-*/conversations.jsonl")
    assert len(next(kept).read_text().splitlines()) > 0
    path.write_text(yaml.safe_dump(content))


def test_what_failed_is_named_by_all_that_wanted_to_go_on_from_it(
    bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    training = {"max_steps": 2, "use_cpu": True, "optim": "galore_adamw"}  # of a library that is not installed
    path = small(tmp_path, bench, methods=["sft+grpo", "sft+rest"], training=training, measure={})
    result = run_experiment(read_experiment(path))
    base, *others = result.failures
    assert base.place == "runs/tiny/sft/default/seed-0/train"
    assert [failure.place.split("/")[2] for failure in others] == ["sft+grpo", "sft+rest"]
    assert {failure.reason for failure in others} == {f"not started, since {base.place} failed"}
    assert in_process.done == ["label", "sft"]


def test_samples_without_a_right_answer_are_nothing_to_tune_on(
    bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    sample = {"samples": 1, "max_new_tokens": 2}
    result = run_experiment(read_experiment(small(tmp_path, bench, methods=["rsft"], sample=sample, measure={})))
    [failure] = result.failures
    assert failure.place == "runs/tiny/rsft/default/seed-0/train"
    assert "is right, so there is nothing to tune on" in failure.reason
    assert in_process.done == ["sample"]
