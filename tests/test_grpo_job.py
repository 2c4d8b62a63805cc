"""`rolewise grpo` from the command line to the report, killed and resumed; and, slowly, that it learns."""

import asyncio
import inspect
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import read_command
from workbench import Workbench, tiny_model, tiny_tokenizer

from rolewise.cli.main import main
from rolewise.core.errors import InputError
from rolewise.data.readers import write_conversations
from rolewise.data.render import Renderer
from rolewise.generator import generate
from rolewise.jobs.grpo import rewards, train_grpo
from rolewise.rewards.registry import _registered, make_rewards, register_reward
from rolewise.training.grpo import WeightedGRPOTrainer

VOWELS = """
from rolewise import register_reward

def vowels(completions, **columns):
    return [sum(letter in "aeiou" for letter in text) / (1 + len(text)) for text in completions]

register_reward("vowels", vowels)
"""


@pytest.fixture(scope="module")
def grpo(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a run of six steps, its own reward beside ToolRL's."""
    folder = tmp_path_factory.mktemp("grpo")
    write_conversations(generate(6, seed=1, formats=("rlla",)), folder / "data.jsonl")
    (folder / "vowels.py").write_text(VOWELS, encoding="utf-8")
    arguments = ["grpo", "--model", bench.model, "--data", folder / "data.jsonl", "--plugin", folder / "vowels.py"]
    arguments += ["--reward", "toolrl,vowels", "--max-steps", 6, "--num-generations", 2, "--save-steps", 2]
    arguments += ["--per-device-train-batch-size", 4, "--max-completion-length", 8, "--learning-rate", "0.01"]
    return [str(a) for a in [*arguments, "--use-cpu", "true", "--gradient-checkpointing", "false", "--no-lora"]]


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(grpo: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "run"
    assert main([*grpo, "--output", str(output), "--gradient-variance", "--generations", "1"]) == 0
    return output


def test_a_run_leaves_model_log_report_and_a_config_that_runs_again(finished: Path, grpo: list[str], capsys) -> None:
    assert {"model.safetensors", "log.jsonl", "report.html", "config.yaml", "run.json", "generations.json"} <= {
        path.name for path in finished.iterdir()
    }
    log = lines_of(finished)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    for entry in log:
        parts = {"rewards/ToolCallFormat/mean", "rewards/ToolCallCorrectness/mean", "rewards/vowels/mean"}
        assert parts <= entry.keys()
        assert entry["reward"] == pytest.approx(sum(entry[part] for part in parts), abs=1e-4)
        assert entry["policy_gradient/variance"] > 0
        assert sum(v for k, v in entry.items() if k.startswith("share/")) == pytest.approx(1)
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert all(title in page for title in ("Entropy by region", "Mean weight by region", "Policy gradient"))
    config = yaml.safe_load((finished / "config.yaml").read_text(encoding="utf-8"))
    assert config["steps_per_generation"] == 1
    again = read_command(["grpo", "--config", str(finished / "config.yaml")])
    assert (again[0].reward, again[1].max_steps, again[1].weighting) == ("toolrl,vowels", 6, "rest")
    capsys.readouterr()
    assert main(["grpo", "--config", str(finished / "config.yaml")]) == 0
    assert "already trained" in capsys.readouterr().err


def test_killed_and_resumed_the_curve_is_the_same(finished: Path, grpo: list[str], tmp_path: Path, monkeypatch) -> None:
    arguments = [*grpo, "--output", str(tmp_path / "run"), "--gradient-variance", "--generations", "1"]
    original, steps = WeightedGRPOTrainer.training_step, []

    def dies_in_the_fourth_step(self, *inputs):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return original(self, *inputs)

    monkeypatch.setattr(WeightedGRPOTrainer, "training_step", dies_in_the_fourth_step)
    assert main(arguments) == 130
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(WeightedGRPOTrainer, "training_step", original)
    assert main(arguments) == 0
    compared = ("reward", "entropy", "weight/other", "share/other", "loss", "policy_gradient/variance")
    for entry, expected in zip(lines_of(tmp_path / "run"), lines_of(finished), strict=True):
        assert entry["step"] == expected["step"]
        for name in compared:
            assert entry.get(name) == pytest.approx(expected.get(name), rel=1e-4, abs=1e-6), name


def test_bad_options_are_one_line(grpo: list[str], tmp_path: Path, capsys) -> None:
    cases = {
        ("--reward", "rest,nothing"): "reward 'nothing' is not known; choose from rest, rest-constant, toolrl",
        ("--weighting", "rft"): "does not go with roles regions: choose one of none, rest",
        ("--weighting", "rset"): "weighting 'rset' is not known; choose one of none, rest, rest-entropy, ",
        ("--accelerator-config", "nowhere.json"): "nowhere.json: cannot be read (No such file or directory)",
        ("--weighting", "rest-officially"): "is not known",
        ("--region-weights", "thinking=1"): "'thinking' is not a region; choose from other, tag, tool_name",
        ("--region-weights", "think=low"): "is not of the form",
        ("--ramp", "curved"): "--ramp 'curved' is not known; choose one of linear, cosine, step",
        ("--call-format", "xml"): "call_format 'xml' is not known",
        ("--temperature", "0"): "temperature is 0.0",
        ("--num-generations", "3"): "divisible by num_generations (3)",
        ("--eval-strategy", "steps"): "give eval_data",
        ("--max-prompt-length", "3"): "every prompt is longer than max_prompt_length 3",
        ("--steps-per-generation", "64"): "but a rollout takes 128",
        ("--granularity", "fine"): "option --granularity is part of a reward now",
        ("--loss-type", "ppo"): "loss_type 'ppo' is not known; choose one of dapo, grpo",
        ("--importance-sampling-level", "word"): "importance_sampling_level 'word' is not known",
        ("--scale-rewards", "all"): "scale_rewards 'all' is not known",
        ("--num-iterations", "0"): "num_iterations is 0",
        ("--beta", "-1"): "beta is -1.0",
    }
    for more, message in cases.items():
        assert main([*grpo, "--output", str(tmp_path / "run"), *more]) == 2, more
        err = capsys.readouterr().err
        said = [line for line in err.splitlines() if line.startswith("rolewise grpo: ")]
        assert len(said) == 1, err
        assert message in said[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("registries")
def test_options_say_which_rules_reward(grpo: list[str], tmp_path: Path) -> None:
    plain = [*grpo, "--output", str(tmp_path / "run"), "--reward", "rest"]
    functions = rewards(*read_command([*plain, "--steps-per-generation", "6", "--gradient-accumulation-steps", "2"]))
    assert [type(function).__name__ for function in functions] == ["ToolCallFormat", "ToolCallCorrectness"]
    assert functions[0].rules.schedule == "dynamic"
    assert functions[0].rules.steps_per_rollout == 3
    for name, count, own in (
        ("toolrl-coarse", 2, {"granularity": "coarse"}),
        ("toolrl-equal-max", 2, {"correctness_max": 1.0}),
        ("toolrl-two-stage", 2, {"schedule": "two-stage"}),
        ("toolrl-length-dynamic", 3, {"length": "dynamic"}),
        ("rest-constant", 2, {"schedule": "constant", "format_rule": "rest"}),
    ):
        functions = rewards(*read_command([*plain, "--reward", name]))
        assert len(functions) == count
        assert {key: getattr(functions[0].rules, key) for key in own} == own
    assert rewards(*read_command([*plain, "--call-format", "hermes"]))[0].rules.format_rule == "parts"
    with pytest.raises(ValueError, match="is taken"):
        register_reward("rest", len)
    before = dict(_registered)
    register_reward("mine", len)
    assert [function.__name__ for function in rewards(*read_command([*plain, "--reward", "mine"]))] == ["mine"]
    _registered.clear()
    _registered.update(before)
    with pytest.raises(InputError, match="each once"):
        read_command([*plain, "--reward", "rest,rest"])
    with pytest.raises(ValueError, match="not a function"):
        register_reward("mine", 3)


def asked(function, count=2):
    """What a registered function's reward gives for so many completions, called as TRL calls it."""
    before = dict(_registered)
    register_reward("mine", function)
    try:
        (reward,) = make_rewards(["mine"], lambda preset: preset)
    finally:
        _registered.clear()
        _registered.update(before)
    columns = {"prompts": ["?"] * count, "completions": ["a"] * count, "completion_ids": [[1]] * count, "reference": []}
    found = reward(**columns)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def test_a_reward_of_ones_own_may_be_silent_but_not_wrong() -> None:
    async def later(completions, **_):
        return [1.0] * len(completions)

    async def fails_later(completions, **_):
        raise OSError("gone")

    class Instance:
        def __call__(self, completions, **_):
            return np.ones(len(completions))

    assert asked(lambda completions, **_: [1, None]) == [1.0, None]
    assert asked(lambda completions, **_: torch.tensor([1.0, math.nan])) == pytest.approx([1.0, math.nan], nan_ok=True)
    assert asked(later) == asked(Instance()) == [1.0, 1.0]
    cases = {
        (lambda completions, **_: 1 / 0): r"'mine' failed \(ZeroDivisionError: division by zero\); fix its plugin",
        (lambda completions: [1, 2]): "'mine' failed .TypeError",
        fails_later: r"'mine' failed \(OSError: gone\)",
        (lambda completions, **_: None): "'mine' gave None; return a list",
        (lambda completions, **_: ["good", "bad"]): "'mine' returned values that are not numbers: could not convert",
        (lambda completions, **_: [1.0]): "'mine' gave 1 numbers for 2 completions",
        (lambda completions, **_: [1.0, math.inf]): "'mine' gave an infinite number",
    }
    for function, message in cases.items():
        with pytest.raises(InputError, match=message):
            asked(function)


def train_a_little(folder: Path, conversations: int, steps: int) -> None:
    """A small model that has seen the generator's conversations, but not often enough to be sure of their calls."""
    data = generate(conversations, seed=0, formats=("rlla",))
    tokenizer = tiny_tokenizer([m["content"] for c in data for m in c.messages], vocab_size=1500)
    samples = [sample for conversation in data for sample in Renderer(tokenizer).render(conversation)]
    model = tiny_model(len(tokenizer), initializer_range=0.02).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    chance = random.Random(0)
    for _ in range(steps):
        batch = chance.sample(samples, 8)
        length = max(len(sample.input_ids) for sample in batch)
        ids_BT = torch.full((8, length), tokenizer.pad_token_id)
        labels_BT, mask_BT = torch.full((8, length), -100), torch.zeros(8, length, dtype=torch.long)
        for row, sample in enumerate(batch):
            ids_T = torch.tensor(sample.input_ids).long()
            ids_BT[row, : len(ids_T)], mask_BT[row, : len(ids_T)] = ids_T, 1
            labels_BT[row, : len(ids_T)] = torch.where(torch.tensor(sample.loss_mask), ids_T, -100)
        model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_conversations(data, folder / "data.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["rest", "none"])
def test_the_reward_rises_and_goes_on_rising_after_a_kill(weighting: str, tmp_path: Path, monkeypatch) -> None:
    train_a_little(tmp_path / "model", conversations=16, steps=150)
    arguments = ["grpo", "--model", tmp_path / "model", "--data", tmp_path / "model" / "data.jsonl"]
    # Four prompts, the same in every rollout, so that the curve is that of the policy and not of the prompts drawn.
    arguments += ["--limit", 5, "--output", tmp_path / "run", "--weighting", weighting]
    arguments += ["--reward", "rest-constant", "--no-lora"]
    arguments += ["--max-steps", 30, "--num-generations", 32, "--per-device-train-batch-size", 128, "--save-steps", 10]
    arguments += ["--max-completion-length", 80, "--learning-rate", "5e-4", "--lr-scheduler-type", "constant"]
    arguments += ["--use-cpu", "true", "--gradient-checkpointing", "false", "--generations", 0]
    options, training = read_command([str(argument) for argument in arguments])
    original = WeightedGRPOTrainer.training_step
    calls = []

    def dies_in_step_17(self, *inputs):
        calls.append(1)
        if len(calls) == 17:
            raise KeyboardInterrupt
        return original(self, *inputs)

    monkeypatch.setattr(WeightedGRPOTrainer, "training_step", dies_in_step_17)
    with pytest.raises(KeyboardInterrupt):
        train_grpo(options, training)
    monkeypatch.setattr(WeightedGRPOTrainer, "training_step", original)
    log = train_grpo(options, training).log
    assert [entry["step"] for entry in log] == list(range(1, 31))
    curve = [entry["reward"] for entry in log]
    first, last = sum(curve[:8]) / 8, sum(curve[-8:]) / 8
    print(f"{weighting}: reward {first:.2f} to {last:.2f}")
    assert first + 0.3 < last
    if weighting == "rest":
        assert log[-1]["weight/think"] > log[0]["weight/think"]
