"""The experiment file: what it may say, what it comes to, and one line for each mistake."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from workbench import Workbench

from rolewise.core.errors import InputError
from rolewise.experiment_runner.config import UNTRAINED, read_experiment, slug
from rolewise.experiment_runner.inputs import check_inputs, fingerprint, missing_inputs
from rolewise.experiment_runner.plan import Plan, plan_experiment, plan_table, reference_row
from rolewise.experiment_runner.steps import Steps

BASE: dict[str, Any] = {
    "output": "out",
    "models": {"one": "owner/one"},
    "data": {"train": "train.jsonl"},
    "methods": ["sft", "shad-rft"],
}


def read(tmp_path: Path, **changes: Any) -> Any:
    path = tmp_path / "experiment.yaml"
    content = {key: value for key, value in {**BASE, **changes}.items() if value is not ...}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return read_experiment(path)


def plan(tmp_path: Path, **changes: Any) -> Plan:
    return plan_experiment(read(tmp_path, **changes))


def test_every_combination_is_one_run(tmp_path: Path) -> None:
    planned = plan(
        tmp_path,
        models={"one": "owner/one", "two": "owner/two"},
        training={"learning_rate": [1e-5, "1e-4"], "max_steps": 3},
        methods=["sft", {"name": "shad-rft", "inv_tau": [0, 0.5, 1]}, "regex-rft"],
        seeds=[0, 1, 7],
    )
    found = {(r.model, r.method, r.training["learning_rate"], r.training.get("inv_tau"), r.seed) for r in planned.runs}
    expected = {
        (model, method, rate, inv_tau, seed)
        for model in ("one", "two")
        for rate in (1e-5, 1e-4)
        for seed in (0, 1, 7)
        for method, inv_taus in (("sft", [None]), ("shad-rft", [0, 0.5, 1]), ("regex-rft", [None]))
        for inv_tau in inv_taus
    }
    assert found == expected
    assert len(planned.runs) == len({run.directory for run in planned.runs}) == len(expected) == 2 * 2 * 3 * 5
    assert {run.training["max_steps"] for run in planned.runs} == {3}
    assert {run.setting for run in planned.runs if run.method == "sft"} == {
        "learning_rate=1e-05",
        "learning_rate=0.0001",
    }
    assert "runs/two/shad-rft/learning_rate=1e-05,inv_tau=0.5/seed-7" in {run.directory for run in planned.runs}


def test_a_run_that_two_entries_ask_for_is_made_once(tmp_path: Path) -> None:
    planned = plan(tmp_path, methods=["shad-rft", {"name": "shad-rft", "inv_tau": [0, 0.3]}, {"name": "shad-rft"}])
    assert [run.setting for run in planned.runs] == ["", "inv_tau=0"]


def test_labellings_are_shared_by_methods_and_seeds_and_told_apart_by_their_options(tmp_path: Path) -> None:
    methods = ["sft", "regex-rft", "shad-rft", "shad-alpha", {"name": "shad-rft", "label": {"min_pairs": [8, 16]}}]
    planned = plan(tmp_path, methods=methods, seeds=[0, 1], models=["a/one", "b/two"], label={"seed": 3, "rank": 4})
    by_method = {(run.model, run.method, run.setting): run.labelling.directory for run in planned.runs if run.labelling}
    shad, regex = by_method["one", "shad-rft", ""], by_method["one", "regex-rft", ""]
    assert shad != regex
    assert by_method["one", "shad-alpha", ""] == shad
    assert by_method["one", "sft", ""] == shad, "SFT logs its losses by SHAD's roles where there are some"
    assert (
        len(
            {shad, by_method["one", "shad-rft", "label.min_pairs=8"]}
            | {by_method["one", "shad-rft", "label.min_pairs=16"]}
        )
        == 3
    )
    assert by_method["two", "shad-rft", ""] != shad, "another model has other tokens"
    assert len(planned.labellings) == len({labelling.directory for labelling in planned.labellings}) == 8
    by_shad = [labelling.options for labelling in planned.labellings if labelling.options["method"] == "shad"]
    assert {(options["seed"], options["rank"]) for options in by_shad} == {(3, 4)}
    assert len(by_shad) == 6, "rules read neither"


def test_the_shared_options_go_before_the_methods_own_and_an_entrys_before_both(tmp_path: Path) -> None:
    planned = plan(tmp_path, methods=["sft", "shad-rft", {"name": "shad-rft", "inv_tau": 2}], training={"inv_tau": 1})
    assert [run.training.get("inv_tau") for run in planned.runs] == [None, 1, 2]
    assert [run.training["weighting"] for run in planned.runs] == ["none", "rft", "rft"]


def test_without_a_method_that_labels_rules_do(tmp_path: Path) -> None:
    planned = plan(tmp_path, methods=["sft", "sft-sample-mean"])
    assert [labelling.options["method"] for labelling in planned.labellings] == ["regex"]


def test_a_model_is_measured_as_it_was_if_anything_is_measured(tmp_path: Path) -> None:
    assert not [run for run in plan(tmp_path).runs if run.method == UNTRAINED]
    measured = plan(tmp_path, measure={"role_losses": "held-out.jsonl"}).runs
    assert [(run.seed, run.labelling) for run in measured if run.method == UNTRAINED] == [(None, None)]
    assert not [
        run for run in plan(tmp_path, measure={"suites": ["gsm8k"], "untrained": False}).runs if run.seed is None
    ]


def test_an_entry_may_have_seeds_of_its_own(tmp_path: Path) -> None:
    methods = ["sft", {"name": "dft", "seeds": [1]}, {"name": "shad-rft", "seeds": 0, "inv_tau": [0, 1]}, "sft+grpo"]
    planned = plan(tmp_path, methods=methods, seeds=[0, 1, 2])
    seeds: dict[tuple[str, str], list[int | None]] = {}
    for run in planned.runs:
        seeds.setdefault((run.method, run.setting), []).append(run.seed)
    assert seeds == {
        ("sft", ""): [0, 1, 2],
        ("dft", ""): [1],
        ("shad-rft", "inv_tau=0"): [0],
        ("shad-rft", "inv_tau=1"): [0],
        ("sft+grpo", ""): [0, 1, 2],
    }


def test_losses_by_role_are_measured_on_every_data_set_that_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, measure={"role_losses": "a.jsonl"}).role_losses == {"": "a.jsonl"}
    assert read(tmp_path, measure={"role_losses": {"data": "a.jsonl"}}).role_losses == {"": "a.jsonl"}
    assert read(tmp_path).role_losses == {}
    named = {"known format": "a.jsonl", "other format": ["b.jsonl", "c.jsonl"]}
    experiment = read(tmp_path, measure={"role_losses": named})
    assert experiment.role_losses == {"known format": "a.jsonl", "other format": '["b.jsonl", "c.jsonl"]'}
    planned = plan_experiment(experiment)
    places = [stage.place for stage in Steps(experiment).measures(planned.runs[0])]
    folder = f"{planned.runs[0].directory}/role_losses"
    assert places == [f"{folder}-known_format", f"{folder}-other_format"]
    note = plan_table(experiment, planned).note
    assert "measured by: losses by role (known format), losses by role (other format);" in note


def test_rows_are_compared_within_their_model_and_shared_settings(tmp_path: Path) -> None:
    planned = plan(tmp_path, models=["a/one", "b/two"], training={"learning_rate": [1e-5, 1e-4]}, seeds=[0])
    rows = {run.row: reference_row(planned, run, "sft") for run in planned.runs}
    assert rows["two", "shad-rft", "learning_rate=1e-05"] == ("two", "sft", "learning_rate=1e-05")
    assert rows["one", "shad-rft", "learning_rate=0.0001"] == ("one", "sft", "learning_rate=0.0001")
    assert rows["one", "sft", "learning_rate=1e-05"] is None


def test_a_method_of_ones_own(tmp_path: Path) -> None:
    own = {"name": "mine", "weighting": "alpha", "label": {"method": "regex"}, "alpha": [0.1, 0.2]}
    runs = [run for run in plan(tmp_path, methods=["sft", own]).runs if run.method == "mine"]
    assert [(run.training["weighting"], run.training["alpha"]) for run in runs] == [("alpha", 0.1), ("alpha", 0.2)]
    assert {run.labelling.options["method"] for run in runs if run.labelling} == {"regex"}


def test_labelling_and_training_may_be_started_in_ways_of_their_own(tmp_path: Path) -> None:
    both = read(tmp_path, launch="torchrun --nproc_per_node 2").launch
    assert both == {key: ["torchrun", "--nproc_per_node", "2"] for key in ("label", "sft", "grpo")}
    one = read(tmp_path, launch={"training": "accelerate launch --config_file 'a b.yaml'"}).launch
    own = ["accelerate", "launch", "--config_file", "a b.yaml"]
    assert one == {"label": [sys.executable], "sft": own, "grpo": [sys.executable]}
    assert read(tmp_path).launch == {key: [sys.executable] for key in ("label", "sft", "grpo")}


def test_what_tells_no_rows_apart_is_not_in_their_name(tmp_path: Path) -> None:
    entry = {"name": "shad-rft", "label": {"rank": 4}, "inv_tau": 0.5}
    assert [run.setting for run in plan(tmp_path, methods=["sft", entry]).runs] == ["", "inv_tau=0.5"]
    settings = [run.setting for run in plan(tmp_path, methods=["sft", "shad-rft", entry]).runs]
    assert settings == ["", "", "inv_tau=0.5, label.rank=4"]


def test_an_option_that_is_gone_may_stand_in_a_section_without_a_value(tmp_path: Path) -> None:
    planned = plan(tmp_path, methods=["grpo"], grpo={"granularity": None, "max_steps": 3})
    assert [run.training for run in planned.runs] == [{"generations": 0, "weighting": "none", "max_steps": 3}]


def test_the_plan_says_how_many_runs_there_are(tmp_path: Path) -> None:
    experiment = read(tmp_path, seeds=[0, 1, 2], measure={"suites": {"gsm8k": {"limit": 5}}})
    table = plan_table(experiment, plan_experiment(experiment))
    assert [row[1:4] for row in table.rows] == [
        ["untrained", "–", "–"],
        ["SFT", "–", "0, 1, 2"],
        ["SHAD + RFT", "–", "0, 1, 2"],
    ]
    assert table.note.startswith("6 runs, 1 labelled data set;")


MISTAKES = [
    ({"colour": 1}, "'colour' is no key of an experiment"),
    ({"output": ...}, "missing: output"),
    ({"models": ["a/x", "b/x"]}, "models: two have the same name"),
    ({"models": {"x": 3}}, "models.x is 3; expected text"),
    ({"models": {"a b": "o/x", "a_b": "o/x"}}, "two runs would share"),
    ({"data": {"limit": 3}}, "data.train is missing"),
    ({"data": {"train": "t.jsonl", "limt": 3}}, "data.limt: 'limt' is no key here; did you mean limit?"),
    ({"data": {"train": "t.jsonl", "limit": "few"}}, "data.limit is 'few'; expected a whole number"),
    ({"data": {"train": "t.jsonl", "limit": 0}}, "data.limit is 0"),
    ({"data": {"train": "t.jsonl", "general_share": 0.3}}, "general_share needs general"),
    ({"methods": []}, r"methods is \[\]"),
    ({"methods": ["sft", "shad-rfd"]}, r"methods\[1\]: 'shad-rfd' is no method; did you mean shad-rft?"),
    ({"methods": ["sft", {"inv_tau": 1}]}, r"methods\[1\].name is None"),
    ({"methods": ["sft", {"name": "shad-rft", "inv_tua": 1}]}, r"methods\[1\].inv_tua: .*did you mean inv_tau"),
    (
        {"methods": ["sft", {"name": "shad-rft", "inv_tau": [0, "x"]}]},
        r"methods\[1\].inv_tau\[1\] is 'x'; expected a number",
    ),
    ({"methods": ["sft", {"name": "shad-rft", "inv_tau": [0, 1, 0]}]}, r"methods\[1\].inv_tau lists a value twice"),
    ({"methods": ["sft", {"name": "shad-rft", "inv_tau": []}]}, r"methods\[1\].inv_tau is an empty list"),
    ({"methods": ["sft", {"name": "shad-rft", "inv_tau": [0, -1]}]}, r"methods\[1\].inv_tau is -1"),
    ({"methods": ["sft", {"name": "shad-rft", "min_pairs": 4}]}, r"give it as methods\[1\].label.min_pairs"),
    ({"methods": [{"name": "sft", "label": {"rank": 4}}]}, r"methods\[0\].label: sft needs no labels"),
    ({"methods": [{"name": "sft", "weighting": "rft"}]}, r"methods\[0\].weighting: sft has its own"),
    ({"methods": [{"name": "mine", "weighting": "nothing"}]}, r"methods\[0\].*weighting 'nothing' is not known"),
    ({"methods": [{"name": "shad-rft", "label": {"method": "regex"}}]}, r"methods\[0\].label.method: shad-rft has its"),
    ({"label": {"method": "shad"}}, "label.method: each method has its own"),
    ({"methods": [{"name": "own", "weighting": "rft", "label": {"method": "x"}}]}, r"methods\[0\].label.method 'x' is"),
    ({"training": {"learning_rat": 1}}, "training.learning_rat: .*did you mean learning_rate"),
    ({"training": {"learning_rate": "high"}}, "training.learning_rate is 'high'; expected a number"),
    ({"training": {"learning_rate": -1.0}}, "training.learning_rate is -1"),
    ({"training": {"max_steps": 2.5}}, "training.max_steps is 2.5; expected a whole number"),
    ({"training": {"lora": 1}}, "training.lora is 1; expected true or false"),
    ({"training": {"lr_scheduler_type": "none such"}}, "none such"),
    ({"training": {"seed": 1}}, "training.seed: give seeds"),
    ({"training": {"output_dir": "x"}}, "training.output_dir: has no effect"),
    ({"training": {"max_length": 8}}, "training.max_length: give it under data"),
    ({"label": {"model": "x"}}, "label.model: the experiment sets it"),
    ({"label": {"max_length": 3}}, "label.max_length: give it under data"),
    ({"label": [1]}, r"label is \[1\]; expected `name: value`"),
    ({"evaluation": {"temperatur": 1}}, "evaluation.temperatur: .*did you mean temperature"),
    ({"measure": {"suite": "gsm8k"}}, "measure.suite: .*did you mean suites"),
    ({"measure": {"suites": ["gsm9k"]}}, "measure.suites.gsm9k: .*did you mean gsm8k"),
    ({"measure": {"suites": {"gsm8k": {"limit": "all"}}}}, "measure.suites.gsm8k.limit is 'all'"),
    ({"measure": {"untrained": 1}}, "measure.untrained is 1; expected true or false"),
    ({"launch": {"eval": "x"}}, "launch.eval: 'eval' is no key here"),
    ({"launch": 3}, "launch is 3"),
    ({"seeds": [0, -1]}, r"seeds\[1\] is -1"),
    ({"seeds": [0, 0]}, "seeds is empty or names a seed twice"),
    ({"seeds": [1 << 32]}, r"seeds\[0\] is 4294967296"),
    ({"launch": "torchrun 'x"}, "launch.label is .* not a command"),
    ({"methods": ["sft", {"name": "a\nb", "weighting": "none"}]}, r"methods\[1\].name is 'a\\nb'; .* line breaks"),
    ({"methods": ["sft", {"name": "untrained", "weighting": "none"}]}, r"methods\[1\].name: untrained is the name of"),
    ({"methods": ["sft", {"name": "mine", "weighting": "rft"}]}, r"methods\[1\]: weighting rft reads labels"),
    ({"methods": ["sft", "reward"]}, r"methods\[1\].label.method reward needs"),
    ({"methods": ["sft", {"name": "rho", "label": {"keep_share": 7}}]}, r"methods\[1\].label.keep_share is 7"),
    ({"label": {"threshold": float("nan")}}, "^label.threshold is nan"),
    ({"label": {"dtype": "float8"}}, "label.dtype 'float8'"),
    ({"measure": {"suites": ["gsm8k"]}, "evaluation": {"temperature": -1}}, "evaluation.temperature is -1"),
    ({"measure": {"suites": ["gsm8k"]}, "evaluation": {"temperature": float("nan")}}, "evaluation.temperature is nan"),
    ({"measure": {"suites": {"gsm8k": {"limit": 0}}}}, "measure.suites.gsm8k.limit is 0"),
    ({"measure": {"role_losses": ""}}, "measure.role_losses is ''"),
    ({"measure": {"role_losses": {"a": "a.jsonl", "b": 3}}}, "measure.role_losses.b is 3"),
    ({"measure": {"role_losses": {"a b": "x", "a_b": "y"}}}, "measure.role_losses: 'a b' and 'a_b' would share one"),
    ({"measure": {"suites": ["calls:a/b", "calls:a_b"]}}, "measure.suites: 'calls:a/b' and 'calls:a_b' would share"),
    ({"methods": ["sft", {"name": "dft", "seeds": [-1]}]}, r"methods\[1\].seeds\[0\] is -1"),
    ({"methods": ["sft", {"name": "dft", "seeds": []}]}, r"methods\[1\].seeds is empty"),
    ({"compare_with": "rho"}, "compare_with: 'rho' is not among the methods"),
    (
        {"compare_with": "sft", "methods": [{"name": "sft", "learning_rate": [1e-5, 1e-4]}, "shad-rft"]},
        "several settings",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line_that_names_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", ":1: not valid YAML"), ("- a", "expected `key: value`"), ("", "found nothing")]
)
def test_a_file_that_is_no_experiment(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_experiment(path)
    with pytest.raises(InputError, match="cannot read"):
        read_experiment(tmp_path / "missing.yaml")


def test_inputs_that_are_not_there_are_told_with_their_keys(tmp_path: Path) -> None:
    here = tmp_path / "here.jsonl"
    here.write_text("{}")
    experiment = read(
        tmp_path,
        models={"hub": "owner/name", "lost": "./nowhere"},
        data={"train": [str(here), "gone.jsonl"], "general": "owner/chat:train"},
        measure={"role_losses": {"here": str(here), "there": "held.jsonl"}, "suites": ["calls:asked.jsonl"]},
        plugin=["p.py"],
        methods=["sft", {"name": "reward", "label": {"preferences": "pairs.jsonl"}}],
    )
    assert [line.split(": ")[0] for line in missing_inputs(experiment)] == [
        "data.train",
        "measure.role_losses.there",
        "measure.suites.calls:asked.jsonl",
        "methods[1].label.preferences",
        "models.lost",
        "plugin[0]",
    ]
    with pytest.raises(InputError, match=r"data.train: gone.jsonl: no such file"):
        check_inputs(experiment)


@pytest.mark.parametrize("name", ["..", ".hidden", "a/../b", "x" * 300, "漢" * 300])
def test_no_name_leaves_the_experiments_directory_or_is_too_long_for_one(tmp_path: Path, name: str) -> None:
    methods = ["sft", {"name": name, "weighting": "none"}]
    for run in plan(tmp_path, models={name: "owner/one"}, methods=methods, measure={"suites": ["gsm8k"]}).runs:
        assert not [part for part in Path(run.directory).parts if part.startswith(".")]
        (tmp_path / run.directory / f"eval-{slug(name)}.partial").mkdir(parents=True)


def test_long_names_that_begin_alike_have_directories_of_their_own(tmp_path: Path) -> None:
    methods = ["sft", *({"name": "x" * 200 + end, "weighting": "none"} for end in "ab")]
    assert len({run.directory for run in plan(tmp_path, methods=methods).runs}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": "{empty}"}}, "data.train: .*the file is empty"),
        ({"data": {"train": "{good}", "format": "none"}}, "data.train: unknown format 'none'"),
        ({"data": {"train": "{good}", "tool_format": "none"}}, "data: unknown tool format 'none'"),
        ({"data": {"train": "{good}", "general": "{pairs}"}}, "data.general: .*preference pairs"),
        ({"measure": {"role_losses": "{good}"}}, "measure.role_losses.data: .*true roles are unknown"),
        ({"measure": {"role_losses": {"mine": "{good}"}}}, "measure.role_losses.mine: .*true roles are unknown"),
        ({"measure": {"suites": ["calls:{empty}"]}}, "measure.suites.calls:.*the file is empty"),
        ({"measure": {"suites": ["calls"]}}, "measure.suites.calls: .* needs conversations"),
        ({"training": {"eval_data": "gone.jsonl"}}, "training.eval_data: gone.jsonl: no such file"),
        ({"launch": {"training": "no-such-launcher --x"}}, "launch.training: no-such-launcher: no such command"),
    ],
)
def test_what_is_read_is_looked_into_before_anything_runs(
    bench: Workbench, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    files = {"empty": "", "good": '{"prompt": "a", "completion": "b"}\n', "pairs": '{"chosen": "a", "rejected": "b"}\n'}
    for name, text in files.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    placed = json.loads(re.sub(r"{(\w+)}", rf"{tmp_path}/\1.jsonl", json.dumps(changes)))
    good = {"train": str(tmp_path / "good.jsonl")}
    with pytest.raises(InputError, match=message):
        check_inputs(read(tmp_path, **{"models": {"tiny": str(bench.model)}, "data": good, **placed}))


def test_a_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text(json.dumps({"n": 1}))
    first, second = (fingerprint(str(tmp_path / name / "x.jsonl")) for name in ("a", "b"))
    assert first == second
    (tmp_path / "b" / "x.jsonl").write_text(json.dumps({"n": 2}))
    assert fingerprint(str(tmp_path / "b" / "x.jsonl")) != first
    assert fingerprint(str(tmp_path / "a")) != first
    assert fingerprint(None) is None


@pytest.mark.parametrize("page", ["README.md", "docs/experiments.md"])
def test_the_experiments_of_the_documents_can_be_read(page: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    found = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "methods:" in block]
    assert len(found) == 1
    (tmp_path / "experiment.yaml").write_text(found[0], encoding="utf-8")
    assert len(read_experiment(tmp_path / "experiment.yaml").methods) >= 3
