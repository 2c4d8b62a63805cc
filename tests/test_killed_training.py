"""Trainings killed at chosen points: the same command resumes, takes as many steps, and ends with the same bytes.

Only seconds, and what is counted by the second, differ.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killed_run import run_killed
from test_grpo_job import VOWELS as VOWELS_REWARD
from test_reinforce_job import VOWELS as VOWELS_VALUE
from test_warmup_command import tree_of
from workbench import Workbench, files_of, small_label_arguments

from rolewise.cli.main import main
from rolewise.data.readers import write_conversations
from rolewise.generator import generate
from rolewise.search.tree import write_trees

QUICK = {
    "sft": [
        *("saving 2", "half 4", "saved 2", "saved 4", "evaluating 4", "saving 8", "saved 8"),
        *("evaluating 8", "result", "publishing", "published"),
    ],
    "grpo": ["taking 6", "saved 8"],
    "reinforce": ["taking 6"],
    "warmup": ["saved 2"],
    "label": ["saved 4 tuned-1"],
    "label, contrast": ["scored"],
}
OF_ROLLOUTS = [
    *("taking 2", "saving 4", "half 4", "saved 4", "evaluating 4", "saving 8", "half 8", "saved 8", "evaluating 8"),
    *("result", "publishing", "published"),
]
"""Of a run whose rollouts serve four steps."""
SLOW = {
    "grpo": OF_ROLLOUTS,
    "grpo, three steps to two rollouts": ["taking 1", "taking 5", "saved 3", "saved 6", "saved 8", "result"],
    "reinforce": [*OF_ROLLOUTS, "saved 8"],
    "reinforce, samples": ["taking 6", "saved 4", "saved 8"],
    "reinforce, grpo": ["taking 6", "saved 4", "saved 8"],
    "warmup": [
        *("publishing run-data", "published run-data", "saving 2", "half 4", "saving 8", "half 8", "saved 8"),
        *("result", "publishing run", "published run.partial"),
    ],
    "label": [
        *("saving 4 tuned-0", "half 4 tuned-0", "saved 4 tuned-0", "saved 6 tuned-0", "result tuned-0"),
        *("placed tuned-0", "saving 6 tuned-1", "saved 6 tuned-1", "result tuned-1", "placed tuned-1", "scored"),
        *("publishing", "published"),
    ],
    "label, contrast": ["publishing", "published"],
}
TESTED = [pytest.param(command, point) for command, points in QUICK.items() for point in points] + [
    pytest.param(command, point, marks=pytest.mark.slow)
    for command, points in SLOW.items()
    for point in points
    if point not in QUICK.get(command, [])
]
EIGHT_STEPS = ["--max-steps", 8, "--lr-scheduler-type", "constant", "--generations", 1, "--output", "run"]


@pytest.fixture(scope="module")
def arguments_of(
    bench: Workbench, steps_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[str]]:
    """The command line, by its name here; its output is `run`."""

    def sft(folder: Path) -> list[object]:
        # Measured at the end of epochs of which one ends with a checkpoint.
        assert main(small_label_arguments(bench, folder / "labelled")) == 0
        given = ["sft", "--model", bench.model, "--data", folder / "labelled", "--save-steps", 2, *EIGHT_STEPS]
        given += ["--learning-rate", "0.01", "--eval-share", 0.2, "--per-device-train-batch-size", 5]
        return [*given, "--logging-steps", 3, "--generation-tokens", 4]

    def rollouts(steps: int, iterations: int, accumulation: int) -> list[object]:
        given = ["--steps-per-generation", steps, "--num-iterations", iterations, "--save-steps", 3, *EIGHT_STEPS]
        given += ["--gradient-accumulation-steps", accumulation, "--per-device-train-batch-size", 2]
        given += ["--per-device-eval-batch-size", 2, "--eval-strategy", "steps", "--eval-steps", 4]
        return [*given, "--num-generations", 2, "--use-cpu", "true", "--gradient-checkpointing", "false"]

    def grpo(folder: Path, *shape: int) -> list[object]:
        for name, count in (("data", 6), ("held_out", 2)):
            write_conversations(generate(count, seed=count, formats=("rlla",)), folder / f"{name}.jsonl")
        (folder / "vowels.py").write_text(VOWELS_REWARD, encoding="utf-8")
        given = ["grpo", "--model", bench.model, "--data", folder / "data.jsonl", *rollouts(*(shape or (2, 2, 1)))]
        given += ["--eval-data", folder / "held_out.jsonl", "--plugin", folder / "vowels.py", "--learning-rate", "0.01"]
        given += ["--reward", "toolrl-dynamic,vowels", "--gradient-variance", "--no-lora"]
        return [*given, "--max-completion-length", 8, "--log-completions", "true"]

    def reinforce(folder: Path, *more: object) -> list[object]:
        pairs = [(a, b) for a in range(2, 5) for b in range(3, 6)]
        lines = [json.dumps({"question": f"What is {a} plus {b}?", "answer": str(a + b)}) for a, b in pairs]
        (folder / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
        (folder / "held_out.jsonl").write_text("\n".join(lines[:2]), encoding="utf-8")
        (folder / "vowels.py").write_text(VOWELS_VALUE, encoding="utf-8")
        given = ["reinforce", "--model", steps_models / "functional", "--data", folder / "questions.jsonl", "--numeric"]
        given += [*rollouts(2, 2, 1), "--eval-data", folder / "held_out.jsonl", "--value", "vowels"]
        given += ["--plugin", folder / "vowels.py", "--rollouts", 3, "--max-depth", 2, "--step-tokens", 4]
        return [*given, "--max-completion-length", 8, "--learning-rate", "0.005", *more]

    def warmup(folder: Path) -> list[object]:
        write_trees(folder / "trees.jsonl", [tree_of(number) for number in range(5)])
        given = ["warmup", "--model", steps_models / "plain", "--trees", folder / "trees.jsonl", "--verify-tokens", 4]
        given += ["--per-device-train-batch-size", 3, "--gradient-accumulation-steps", 1, "--learning-rate", "0.01"]
        return [*given, "--weighting", "rft", "--generation-tokens", 4, "--save-steps", 2, *EIGHT_STEPS]

    def label(_: Path) -> list[object]:
        # Six steps for each of two models, of which a checkpoint is written after four.
        given = ["label", "--method", "shad", "--model", bench.model, "--data", bench.data, "--output", "run"]
        return [*given, "--max-length", 1024, "--min-pairs", 12, "--batch-tokens", 512, "--keep-tuned"]

    def contrast(_: Path) -> list[object]:
        given = ["label", "--method", "contrast", "--model", bench.model, "--data", bench.data, "--output", "run"]
        return [*given, "--max-length", 1024, "--batch-tokens", 512, "--rarity", 0.5]

    made: dict[str, Callable[[Path], list[object]]] = {
        "sft": sft,
        "grpo": grpo,
        "grpo, three steps to two rollouts": lambda folder: grpo(folder, 3, 1, 2),
        "reinforce": reinforce,
        "reinforce, samples": lambda folder: reinforce(folder, "--rollouts-from", "samples"),
        "reinforce, grpo": lambda folder: reinforce(folder, "--rollouts-from", "grpo"),
        "warmup": warmup,
        "label": label,
        "label, contrast": contrast,
    }
    given: dict[str, list[str]] = {}

    def arguments(command: str) -> list[str]:
        if command not in given:
            given[command] = [str(argument) for argument in made[command](tmp_path_factory.mktemp("inputs"))]
        return given[command]

    return arguments


@pytest.fixture(scope="module")
def undisturbed(
    arguments_of: Callable[[str], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Where a command that nobody killed left its results, by its name here."""
    folders: dict[str, Path] = {}

    def run(command: str) -> Path:
        if command not in folders:
            folders[command] = tmp_path_factory.mktemp("undisturbed") / "at-work"
            folders[command].mkdir()
            assert run_killed(arguments_of(command), "", folders[command]) == 0
        return folders[command]

    return run


def results_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file by its name, the log without what a clock says."""
    for name, content in files_of(folder).items():
        if name.endswith("log.jsonl"):
            lines = [json.loads(line) for line in content.splitlines()]
            kept = [{k: v for k, v in line.items() if not k.endswith(("time", "_per_second"))} for line in lines]
            yield name, json.dumps(kept).encode()
        elif not name.endswith("run.json"):
            yield name, content


@pytest.mark.parametrize(("command", "point"), TESTED)
def test_killed_anywhere_a_command_ends_with_the_same_bytes(command, point, arguments_of, undisturbed, tmp_path):
    expected = dict(results_of(undisturbed(command)))
    folder = tmp_path / "at-work"
    folder.mkdir()
    assert run_killed(arguments_of(command), point, folder) == -9
    assert run_killed(arguments_of(command), "", folder) == 0
    found = dict(results_of(folder))
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
