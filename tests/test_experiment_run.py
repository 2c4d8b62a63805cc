"""Experiments on a tiny model: steps shared and skipped, failures noted, interrupted and resumed to the same bytes."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from in_process import InProcess
from workbench import Workbench, command_line, environment

from rolewise.cli.main import main
from rolewise.core.errors import InputError
from rolewise.data.readers import write_conversations
from rolewise.experiment_runner.config import read_experiment, slug
from rolewise.experiment_runner.measuring import measure_role_losses
from rolewise.experiment_runner.run import ExperimentResult, run_experiment
from rolewise.experiment_runner.stages import run_command
from rolewise.generator import generate
from rolewise.jobs.label import label
from rolewise.options.labelling import LabelOptions

PLUGIN = Path(__file__).with_name("suite_plugin.py")
FILES = ("table.md", "table.csv", "results.json", "report.html", "loss_by_role.svg", "score_over_inv_tau.svg")


def write_experiment(folder: Path, bench: Workbench, **changes: Any) -> Path:
    write_conversations(generate(5, seed=3, split="eval"), folder / "held-out.jsonl")
    content = {
        "name": "tiny",
        "output": str(folder / "out"),
        "models": {"tiny": str(bench.model)},
        "data": {"train": str(bench.data), "limit": 8, "max_length": 512},
        "label": {"min_pairs": 4},
        "training": {"max_steps": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 2, "logging_steps": 1},
        "methods": ["sft", {"name": "regex-rft", "inv_tau": [0, 2]}],
        "seeds": [0, 1],
        "measure": {
            "role_losses": {"data": str(folder / "held-out.jsonl")},
            "suites": {"short_answers": {"limit": 6, "max_new_tokens": 3}},
        },
        "plugin": [str(PLUGIN)],
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def result_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


@pytest.fixture(scope="module")
def finished(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExperimentResult, InProcess]:
    """An experiment that nothing disturbed: its file, its result, and what was started."""
    folder = tmp_path_factory.mktemp("experiment")
    commands = InProcess()
    path = write_experiment(folder, bench)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rolewise.experiment_runner.run.run_command", commands)
        result = run_experiment(read_experiment(path))
    return path, result, commands


def test_one_labelling_serves_all_and_every_run_is_trained_and_measured_once(finished) -> None:
    _, result, commands = finished
    assert result.failures == []
    assert commands.done.count("label") == 1
    assert commands.done.count("sft") == 3 * 2
    assert commands.done.count("measuring") == 3 * 2 + 1
    assert result.worked == len(commands.done) == 14


def test_the_table_has_a_line_for_every_row_and_the_files_are_there(finished) -> None:
    _, result, _ = finished
    assert result_files(result.path).keys() == set(FILES)
    lines = (result.path / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| tiny")]
    assert [row[1:4] for row in rows] == [
        ["untrained", "–", "–"],
        ["SFT", "–", "2"],
        ["Regex + RFT", "inv_tau=0", "2"],
        ["Regex + RFT", "inv_tau=2", "2"],
    ]
    assert all("p = " in row[5] for row in rows[2:])
    assert [row[5] for row in rows[:2]] == ["–", "–"]
    assert "Short answers" in lines[2]


def test_the_numbers_are_those_that_the_runs_measured(finished) -> None:
    _, result, _ = finished
    values = {}
    for seed in (0, 1):
        for method in ("sft/default", "regex-rft/inv_tau=2"):
            folder = result.path / "runs" / "tiny" / method / f"seed-{seed}"
            by_sample = json.loads((folder / "role_losses" / "losses.json").read_text())["reasoning"]
            values[method, seed] = sum(by_sample) / len(by_sample)
    rows = json.loads((result.path / "results.json").read_text())["rows"]
    found = next(row for row in rows if row["setting"] == "inv_tau=2")["measures"]["loss: reasoning"]
    means = [sum(values[method, seed] for seed in (0, 1)) / 2 for method in ("regex-rft/inv_tau=2", "sft/default")]
    assert found["mean"][0] == pytest.approx(means[0], abs=1e-5)
    assert found["difference"]["difference"][0] == pytest.approx(means[0] - means[1], abs=1e-5)
    assert len(set(values.values())) == 4, "seeds and methods must differ, or this shows nothing"


def test_losses_by_role_are_the_models_own(finished, bench: Workbench, tmp_path: Path) -> None:
    path, result, _ = finished
    data = str(path.parent / "held-out.jsonl")
    stored = json.loads((result.path / "runs/tiny/untrained/role_losses/losses.json").read_text())
    assert measure_role_losses(str(bench.model), data, {"max_length": 512}) == stored
    # A labelled data set's own roles count instead, and the loss over all tokens stays what it was.
    options = {"model": str(bench.model), "output": str(tmp_path / "labelled"), "max_length": 512}
    labelled = label(LabelOptions(data=data, method="regex", **options))
    by_labels = measure_role_losses(str(bench.model), str(labelled.path), {})
    assert by_labels["all tokens"] == stored["all tokens"]
    assert by_labels["reasoning"] != stored["reasoning"]


def test_several_held_out_sets_and_their_calls_are_columns_of_their_own(
    bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    other = tmp_path / "other.jsonl"
    write_conversations(generate(4, seed=9, split="eval", formats=("react",)), other)
    losses = {"known": str(tmp_path / "held-out.jsonl"), "new format": str(other)}
    suites = {f"calls:{other}": {"max_new_tokens": 3}}
    measure = {"role_losses": losses, "suites": suites, "untrained": False}
    path = write_experiment(tmp_path, bench, methods=["sft"], seeds=[0], measure=measure)
    result = run_experiment(read_experiment(path))
    assert result.failures == []
    folder = result.path / "runs/tiny/sft/default/seed-0"
    numbers = json.loads((result.path / "results.json").read_text())["runs"][0]["measures"]
    for name, data in losses.items():
        stored = json.loads((folder / f"role_losses-{slug(name)}" / "losses.json").read_text())
        assert measure_role_losses(str(folder / "train"), data, {"max_length": 512}) == stored
        for role in ("all tokens", "reasoning", "boilerplate"):
            known = [loss for loss in stored[role] if loss is not None]
            assert numbers[f"loss on {name}: {role}"][0] == pytest.approx(sum(known) / len(known), abs=1e-5)
    assert len(numbers) == 7
    assert numbers[f"calls:{other}"][0] == 0
    table = (result.path / "table.md").read_text()
    assert "new format: loss, reasoning" in table
    assert "Calls, other" in table

    write_conversations(generate(3, seed=9, split="eval", formats=("react",)), other)
    with pytest.raises(InputError, match=r"made with other settings or inputs \(data\)"):
        run_experiment(read_experiment(path))
    del measure["role_losses"]
    write_experiment(tmp_path, bench, methods=["sft"], seeds=[0], measure=measure)
    with pytest.raises(InputError, match=r"eval-calls.*made with other settings or inputs \(data\)"):
        run_experiment(read_experiment(path))


def test_the_same_again_starts_nothing_and_writes_the_same(finished, in_process: InProcess) -> None:
    path, result, _ = finished
    before = result_files(result.path)
    again = run_experiment(read_experiment(path))
    assert (in_process.done, again.worked, again.failures) == ([], 0, [])
    assert result_files(result.path) == before


def test_an_interrupted_experiment_ends_with_the_same_files(
    finished, bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    """It is stopped before its last measure, all that came before the last run being there."""
    _, undisturbed, _ = finished
    path, out = write_experiment(tmp_path, bench), tmp_path / "out"
    shutil.copytree(undisturbed.path, out)
    for name in FILES:
        (out / name).unlink()
    shutil.rmtree(out / "runs/tiny/regex-rft/inv_tau=2/seed-1")
    in_process.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run_experiment(read_experiment(path))
    assert not (out / "table.md").exists()
    in_process.stop_at = 0
    run_experiment(read_experiment(path))
    assert in_process.done == ["sft", "measuring"], "what was done is not done again"
    assert result_files(out) == result_files(undisturbed.path)


@pytest.mark.slow
def test_interrupted_anywhere_an_experiment_ends_with_the_same_files(
    bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    def written(name: str) -> Path:
        (tmp_path / name).mkdir()
        return write_experiment(tmp_path / name, bench, methods=["sft"], seeds=[0])

    undisturbed = run_experiment(read_experiment(written("undisturbed")))
    count = len(in_process.done)
    assert in_process.done == ["measuring", "label", "sft", "measuring"]
    for stop_at in range(1, count + 1):
        path = written(f"stopped-{stop_at}")
        in_process.done, in_process.stop_at = [], stop_at
        with pytest.raises(KeyboardInterrupt):
            run_experiment(read_experiment(path))
        assert not (path.parent / "out" / "table.md").exists()
        in_process.stop_at = 0
        run_experiment(read_experiment(path))
        assert len(in_process.done) == count, "what was done is not done again"
        assert result_files(path.parent / "out") == result_files(undisturbed.path)


def test_a_run_that_fails_has_its_line_and_the_others_go_on(
    bench: Workbench, tmp_path: Path, in_process: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"name": "broken", "weighting": "none", "optim": "galore_adamw"}  # of a library that is not installed
    measure = {"role_losses": {"data": str(tmp_path / "held-out.jsonl")}, "untrained": False}
    path = write_experiment(tmp_path, bench, methods=[broken, "regex-rft"], seeds=[0], measure=measure)
    content = yaml.safe_load(path.read_text())
    assert main(["experiment", str(path)]) == 1
    table = (tmp_path / "out" / "table.md").read_text()
    failed = [line for line in table.splitlines() if line.startswith("| runs/")]
    assert len(failed) == 1
    assert "runs/tiny/broken" in failed[0]
    assert "0 of 1" in next(line for line in table.splitlines() if "| broken" in line)
    assert "Regex + RFT" in table
    assert "Failed" in capsys.readouterr().out

    # The same command tries it again; mended, nothing of the failure is left.
    before = len(in_process.done)
    assert main(["experiment", "--config", str(path)]) == 1
    assert len(in_process.done) == before + 1
    content["methods"] = ["regex-rft"]
    path.write_text(yaml.safe_dump(content))
    assert main(["experiment", str(path)]) == 0
    assert "Failed" not in (tmp_path / "out" / "table.md").read_text()


def test_a_suite_that_fails_leaves_the_other_measures(bench: Workbench, tmp_path: Path, in_process: InProcess) -> None:
    path = write_experiment(tmp_path, bench, methods=["sft"], seeds=[0])
    content = yaml.safe_load(path.read_text())
    content["measure"]["suites"] = {"falls": {}, "short_answers": {"limit": 3, "max_new_tokens": 3}}
    content["measure"]["untrained"] = False
    path.write_text(yaml.safe_dump(content))
    result = run_experiment(read_experiment(path))
    assert [failure.place for failure in result.failures] == ["runs/tiny/sft/default/seed-0/eval-falls"]
    assert "nothing here" in result.failures[0].reason
    assert "0 of 1" in (result.path / "table.md").read_text()
    numbers = json.loads((result.path / "results.json").read_text())
    assert numbers["runs"][0]["measures"].keys() == {
        "loss: all tokens",
        "loss: reasoning",
        "loss: boilerplate",
        "short_answers",
    }


def test_without_labels_their_runs_fail_and_others_do_not(bench: Workbench, tmp_path: Path, in_process) -> None:
    rules = {"name": "own", "weighting": "rft", "label": {"method": "regex"}}
    path = write_experiment(tmp_path, bench, methods=["shad-rft", rules], seeds=[0], measure={}, compare_with="own")
    real = in_process.__call__

    def no_shad(words: Sequence[str], log: Path, said: Callable[[str], None]) -> str | None:
        return "no memory" if "shad" in str(log) and "labels" in str(log) else real(words, log, said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rolewise.experiment_runner.run.run_command", no_shad)
        result = run_experiment(read_experiment(path))
    labels, run = result.failures
    assert (labels.place.rpartition("-")[0], labels.reason) == ("labels/tiny/shad", "no memory")
    assert run.place == "runs/tiny/shad-rft/default/seed-0/train"
    assert labels.place in run.reason
    assert (result.path / "runs/tiny/own/default/seed-0/train/run.json").exists()


def test_other_settings_in_a_directory_are_refused_before_anything_runs(
    finished, bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    path, result, _ = finished
    content = yaml.safe_load(path.read_text())
    content["training"]["learning_rate"] = 1e-3
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"seed-0/train: made with other settings .*learning_rate.*remove it"):
        run_experiment(read_experiment(changed))
    content = yaml.safe_load(path.read_text())
    content["seeds"] = [0]  # fewer are no other settings
    changed.write_text(yaml.safe_dump(content))
    run_experiment(read_experiment(changed))
    assert in_process.done == []
    assert "| 1 |" in (result.path / "table.md").read_text()
    run_experiment(read_experiment(path))
    content["output"] = str(tmp_path / "other")
    (tmp_path / "other/runs/tiny/sft/default/seed-0/train").mkdir(parents=True)
    changed.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="not made by this experiment"):
        run_experiment(read_experiment(changed))


def test_data_that_changed_is_noticed(bench: Workbench, tmp_path: Path, in_process: InProcess) -> None:
    data = tmp_path / "train.jsonl"
    data.write_bytes(bench.data.read_bytes())
    path = write_experiment(tmp_path, bench, data=str(data), methods=["sft"], seeds=[0], measure={})
    in_process.stop_at = 2  # the labels are there, which are made of the data
    with pytest.raises(KeyboardInterrupt):
        run_experiment(read_experiment(path))
    data.write_bytes(b"".join(data.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"other settings or inputs \(data\)"):
        run_experiment(read_experiment(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("stages.json", '{"a'),
        ("stages.json", "[1]"),
        ("losses.json", ""),
        ("losses.json", "{}"),
        ("log.jsonl", '{"a'),
        ("summary.json", "{}"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(
    finished, bench: Workbench, tmp_path: Path, in_process: InProcess, name: str, content: str
) -> None:
    path = write_experiment(tmp_path, bench)
    shutil.copytree(finished[1].path, tmp_path / "out")
    damaged = min((tmp_path / "out").rglob(name))
    damaged.write_text(content)
    with pytest.raises(InputError) as caught:
        run_experiment(read_experiment(path))
    assert str(damaged.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_called_like_html_is_shown_as_it_is_written(
    bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    name = "<script>alert(1)</script>|[red]x"
    methods = [{"name": name, "weighting": "none"}]
    path = write_experiment(tmp_path, bench, methods=methods, seeds=[0], measure={})
    out = run_experiment(read_experiment(path)).path
    assert "<script>alert" not in (out / "report.html").read_text()
    assert "\\<script>alert(1)\\</script>\\|[red]x" in (out / "table.md").read_text()


@pytest.mark.usefixtures("registries")
def test_other_methods_do_not_make_a_run_that_reads_no_labels_another(
    bench: Workbench, tmp_path: Path, in_process: InProcess
) -> None:
    """SFT logs its losses by the roles of another method's labels; which those are may change with the methods."""

    def run(methods: list[Any], seeds: list[int]) -> ExperimentResult:
        path = write_experiment(tmp_path, bench, methods=methods, seeds=seeds, measure={}, plugin=str(plugin))
        return run_experiment(read_experiment(path))

    plugin = tmp_path / "again.py"
    plugin.write_text(
        "from rolewise.labelling.labellers import by_regex, register_labeller\n\nregister_labeller('again', by_regex)\n"
    )
    other = {"name": "other", "weighting": "rft", "label": {"method": "again"}}  # of the same roles
    run(["sft", "regex-rft"], [0])
    for methods, seeds, new in ((["sft", other], [0], ["label", "sft"]), (["sft"], [0, 1], ["sft"])):
        before = len(in_process.done)
        result = run(methods, seeds)
        assert result.failures == []
        assert in_process.done[before:] == new
    runs = json.loads((result.path / "results.json").read_text())["runs"]
    labels = {run["seed"]: run["labels"] for run in runs if run["method"] == "sft"}
    assert labels[0] == labels[1]
    begun = yaml.safe_load((result.path / "runs/tiny/regex-rft/default/seed-0/train.yaml").read_text())
    assert begun["data"] == str(result.path / labels[0])


def test_a_second_runner_is_refused(bench: Workbench, tmp_path: Path, in_process: InProcess) -> None:
    path = write_experiment(tmp_path, bench)
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(InputError, match="another process is working"):
        run_experiment(read_experiment(path))
    assert in_process.done == []


def test_the_plan_does_nothing(bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_experiment(tmp_path, bench, models={"lost": str(tmp_path / "lost")})
    assert main(["experiment", str(path), "--plan"]) == 0
    captured = capsys.readouterr()
    assert "6 runs, 1 labelled data set;" in " ".join(captured.out.split())
    assert "not there yet: models.lost" in captured.err
    assert not (tmp_path / "out").exists()
    assert main(["experiment", str(path)]) == 2
    assert "models.lost" in capsys.readouterr().err
    assert main(["experiment"]) == 2
    assert "give one experiment file" in capsys.readouterr().err


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('all well')", None),
        (
            "import sys; print('x\\n\\nrolewise sft: a.yaml: no good', file=sys.stderr); print('more'); sys.exit(2)",
            "no good",
        ),
        ("raise MemoryError('no room')", "MemoryError: no room"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, possibly out of memory"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_how_a_command_ended_is_one_line(tmp_path: Path, code: str, reason: str | None) -> None:
    found = run_command(command(code), tmp_path / "logs" / "log", lambda line: None)
    assert found == reason or (reason == "no good" and found == "a.yaml: no good")
    assert run_command(["/nowhere/python"], tmp_path / "log", lambda line: None) == (
        "cannot start /nowhere/python: No such file or directory"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_ends_the_runner_ends_what_it_waits_for(bench: Workbench, tmp_path: Path, number: int) -> None:
    started, said = tmp_path / "started", tmp_path / "said"
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    launcher = tmp_path / "launcher.py"  # in the labelling's place
    launcher.write_text(code)
    path = write_experiment(tmp_path, bench, launch=f"{sys.executable} {launcher}", measure={})

    def experiment() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs in the background ignore it
        with said.open("w") as stream, contextlib.redirect_stderr(stream):
            sys.exit(main(["experiment", str(path)]))

    process = multiprocessing.get_context("fork").Process(target=experiment)  # a fresh one would import for seconds
    process.start()
    while process.is_alive() and not (started.exists() and started.read_text()):
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(timeout=60)
    assert process.exitcode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert "Traceback" not in said.read_text()
    if number != signal.SIGKILL:
        assert "; rerun the command to resume" in said.read_text()
    for _ in range(100):  # after SIGKILL the kernel sees to it, a moment later
        if not runs(int(started.read_text())):
            break
        time.sleep(0.1)
    assert not runs(int(started.read_text()))


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended; one that nobody waited for may stay in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [12, 30, 45])
def test_killed_with_all_its_processes_it_goes_on_to_the_same_files(
    finished, bench: Workbench, tmp_path: Path, seconds: float
) -> None:
    _, undisturbed, _ = finished
    path = write_experiment(tmp_path, bench)
    arguments = command_line("experiment", path)
    process = subprocess.Popen(arguments, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list((tmp_path / "out").rglob("run.json")))
    result = subprocess.run(arguments, env=environment(), timeout=600, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / "out").rglob("run.json"))) > done
    assert result_files(tmp_path / "out") == result_files(undisturbed.path)
