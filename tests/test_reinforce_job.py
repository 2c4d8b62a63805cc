"""`rolewise reinforce` from the command line to the report, killed and resumed; and that it learns."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from commands import read_command
from workbench import tiny_model, tiny_tokenizer

from rolewise.cli.main import main
from rolewise.core.behaviour import RFTT
from rolewise.data.chat_template import CHATML
from rolewise.jobs.reinforce import _Notes
from rolewise.jobs.reinforce_data import load_questions
from rolewise.jobs.reinforce_report import behaviour_shares
from rolewise.training.functional_tokens import add_functional_tokens
from rolewise.training.reinforce import ReinforceTrainer

VOWELS = """
from rolewise import register_value

def vowels(question, steps):
    text = "".join(step.text for step in steps)
    return sum(letter in "aeiou" for letter in text) / (1 + len(text))

register_value("vowels", vowels)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with functional tokens, one without, 12 questions, and a value of one's own."""
    root = tmp_path_factory.mktemp("reinforce")
    pairs = [(a, b) for a in range(2, 6) for b in range(3, 6)]
    texts = [f"What is {a} plus {b}? The answer is \\boxed{{{a + b}}}." for a, b in pairs]
    tokenizer = tiny_tokenizer(texts * 3, vocab_size=400)
    model = tiny_model(len(tokenizer), initializer_range=0.02)
    for name in ("plain", "model"):
        if name == "model":
            add_functional_tokens(model, tokenizer)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    lines = [json.dumps({"question": f"What is {a} plus {b}?", "answer": f"So.\n#### {a + b}"}) for a, b in pairs]
    (root / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "vowels.py").write_text(VOWELS, encoding="utf-8")
    return root


def arguments(folder: Path, *more: object) -> list[str]:
    """A run of six steps of eight paths."""
    given = ["reinforce", "--model", folder / "model", "--data", folder / "questions.jsonl", "--numeric"]
    given += ["--rollouts", 6, "--max-depth", 3, "--step-tokens", 6, "--max-completion-length", 16]
    given += ["--num-generations", 4, "--per-device-train-batch-size", 8, "--max-steps", 6, "--save-steps", 2]
    given += ["--learning-rate", "0.005", "--use-cpu", "true", "--gradient-checkpointing", "false"]
    return [str(argument) for argument in [*given, *more]]


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By tree search, measured on held-out questions, judged by a value of one's own."""
    output = tmp_path_factory.mktemp("finished") / "run"
    assert main(of_the_run(folder, output)) == 0
    return output


def of_the_run(folder: Path, output: Path) -> list[str]:
    own = ("--value", "vowels", "--plugin", folder / "vowels.py", "--generations", 1)
    return arguments(folder, *own, "--output", output)


def test_a_run_leaves_model_log_report_and_a_config_that_runs_again(finished: Path, capsys) -> None:
    assert {"model.safetensors", "log.jsonl", "report.html", "config.yaml", "run.json", "generations.json"} <= {
        path.name for path in finished.iterdir()
    }
    log = lines_of(finished)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    for entry in log:
        assert entry["reward"] > 0
        assert {"kl", "answered", "clip_ratio/region_mean", "completions/mean_length", "return/std"} <= entry.keys()
        assert sum(entry[f"steps/{behaviour.name}"] for behaviour in RFTT) >= 1
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert abs(log[-1]["kl"]) > 1e-6
    for shares in zip(*behaviour_shares(log).values(), strict=True):
        assert sum(share for _, share in shares) == pytest.approx(1)
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert all(title in page for title in ("Steps by behaviour", "KL from the initial model", "Clipped tokens"))
    config = yaml.safe_load((finished / "config.yaml").read_text(encoding="utf-8"))
    assert (config["rollouts_from"], config["rollouts"], config["beta"]) == ("tree", 6, 0.01)
    capsys.readouterr()
    assert main(["reinforce", "--config", str(finished / "config.yaml")]) == 0
    assert "already trained" in capsys.readouterr().err


def test_killed_and_resumed_the_curve_is_the_same(finished: Path, folder: Path, tmp_path: Path, monkeypatch) -> None:
    original, steps = ReinforceTrainer.training_step, []

    def dies_in_the_fourth_step(self, *inputs):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return original(self, *inputs)

    monkeypatch.setattr(ReinforceTrainer, "training_step", dies_in_the_fourth_step)
    assert main(of_the_run(folder, tmp_path / "run")) == 130
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(ReinforceTrainer, "training_step", original)
    assert main(of_the_run(folder, tmp_path / "run")) == 0
    compared = ("reward", "answered", "kl", "loss", "entropy", "completions/mean_length", "steps/verify", "return/std")
    for entry, expected in zip(lines_of(tmp_path / "run"), lines_of(finished), strict=True):
        assert entry["step"] == expected["step"]
        for name in compared:
            assert entry[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("rollouts_from", ["samples", "grpo"])
def test_other_rollouts_log_the_same_numbers(rollouts_from: str, folder: Path, tmp_path: Path, capsys) -> None:
    """Of a model without functional tokens as well, whose answers are one step each."""
    more = ("--rollouts-from", rollouts_from, "--max-steps", 2, "--model", folder / "plain", "--lora", "--merge")
    more += ("--eval-data", folder / "questions.jsonl", "--eval-strategy", "steps", "--eval-steps", 2)
    assert main(arguments(folder, *more, "--output", tmp_path / "run")) == 0
    assert "has no functional tokens" in capsys.readouterr().err
    assert (tmp_path / "run" / "merged" / "model.safetensors").exists()
    log = lines_of(tmp_path / "run")
    measured = [entry for entry in log if "eval_reward" in entry]
    assert [entry["step"] for entry in measured] == [0, 2]
    assert all(0 <= entry["eval_right"] <= entry["eval_answered"] for entry in measured)
    for entry in log:
        if "reward" in entry:
            assert entry["reward"] == pytest.approx(0.1 * entry["answered"] + 0.9 * entry["right"])
            assert {"kl", "clip_ratio/region_mean"} <= entry.keys()
            assert not any(name.startswith("steps/") for name in entry)


@pytest.mark.parametrize("rollouts_from", ["samples", pytest.param("tree", marks=pytest.mark.slow)])
def test_the_reward_rises(rollouts_from: str, folder: Path, tmp_path: Path) -> None:
    more = ("--value", "vowels", "--plugin", folder / "vowels.py", "--rollouts-from", rollouts_from)
    more += ("--max-steps", 24, "--per-device-train-batch-size", 32, "--generations", 0, "--learning-rate", "0.01")
    assert main(arguments(folder, *more, "--lr-scheduler-type", "constant", "--output", tmp_path / "run")) == 0
    curve = [entry["reward"] for entry in lines_of(tmp_path / "run")]
    first, last = sum(curve[:4]) / 4, sum(curve[-4:]) / 4
    print(f"{rollouts_from}: reward {first:.3f} to {last:.3f}")
    assert last > 1.5 * first


def test_a_process_reward_server_that_is_down_is_said_once(folder: Path, tmp_path: Path, capsys) -> None:
    down = ("--process-reward", "http://localhost:1/score", "--limit", 10, "--max-steps", 2, "--generations", 0)
    assert main(arguments(folder, *down, "--output", tmp_path / "run")) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "can't be reached" in line]
    assert len(said) == 1
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("judged by the answer alone") == 1


def test_a_note_is_said_once_whoever_else_has_one_and_however_its_numbers_grow() -> None:
    judge, rollouts, said = SimpleNamespace(notes=[]), SimpleNamespace(notes=["Some paths end early"]), []
    told = _Notes(said.append)
    told.sources += [judge, rollouts]
    for notes in ([], ["The judge is down; 1 path was"], ["Some are long", "The judge is down; 1,234 path was"]):
        judge.notes = notes
        told.on_step_end(None, None, None)
    assert said == ["Some paths end early", "The judge is down; 1 path was", "Some are long"]
    assert len(told.notes()) == 3


def test_bad_options_are_one_line(folder: Path, tmp_path: Path, capsys) -> None:
    no_answers = tmp_path / "no_answers.jsonl"
    no_answers.write_text('{"question": "Why?"}\n', encoding="utf-8")
    turns = tmp_path / "turns.jsonl"
    talk = [{"role": role, "content": "Hm."} for role in ("user", "assistant", "user", "assistant")]
    turns.write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    cases = {
        ("--model", folder / "plain"): "has no functional token <clarify>",
        ("--data", no_answers): "1 questions have no answer to compare with",
        ("--data", turns): "a conversation of several turns",
        ("--data", tmp_path / "nothing.jsonl"): "nothing.jsonl",
        ("--value", "luck"): "value 'luck' is not known; choose from math",
        ("--wrong-with-answer", 2): "wrong_with_answer is 2.0",
        ("--rollouts", 0): "rollouts is 0",
        ("--temperature", 0): "temperature is 0.0",
        ("--num-generations", 3): "divisible by num_generations (3)",
        ("--loss-type", "vespo"): "loss_type 'vespo' has no advantages of single tokens",
        ("--steps-per-generation", 64): "but a rollout takes 128",
        ("--eval-strategy", "steps"): "give eval_data",
        ("--max-prompt-length", 3): "12 questions are longer than max_prompt_length 3",
        ("--mask-truncated-completions", "true"): "would exclude every path",
        ("--use-vllm", "true"): "use_vllm applies to rollouts from grpo",
        ("--rollouts-from", "grpo", "--server", "http://localhost:1"): "server and batch_size apply to rollouts",
        ("--server", "http://localhost:1/v1"): "can't be reached",
        ("--value", "mine", "--process-reward", "judge"): "is a function that uses no process_reward",
        ("--process-reward-format", "qwen"): "process_reward_format needs process_reward",
        ("--paths", "best"): "paths 'best' is not known",
        ("--merge",): "without LoRA there is nothing to merge",
        ("--behaviours", tmp_path / "none.yaml"): "cannot read the behaviours",
    }
    for more, message in cases.items():
        assert main(arguments(folder, "--output", tmp_path / "run", *more)) == 2, more
        err = capsys.readouterr().err
        said = [line for line in err.splitlines() if line.startswith("rolewise reinforce: ")]
        assert len(said) == 1, err
        assert message in said[0]
    assert not list(tmp_path.glob("run*"))


def test_questions_are_read_with_their_answers(folder: Path, data_dir: Path) -> None:
    more = ("--output", "unused", "--limit", 40, "--max-prompt-length", 2000)
    for name, reference in (("gsm8k/train.jsonl", "72"), ("math/math_train_7500.jsonl", None)):
        options, _ = read_command(arguments(folder, "--data", data_dir / name, *more))
        rows = load_questions(options).train
        assert len(rows) >= 39
        assert all(answer.strip() for answer in rows["reference"])
        assert all(row["question"] in row["prompt"] for row in rows)
        assert len(set(rows["id"])) == len(rows)
        assert reference in (None, rows["reference"][0])


def test_the_questions_of_a_search_are_those_of_a_reinforcement(folder: Path, tmp_path: Path) -> None:
    records = [{"id": 1, "question": "2 + 2?", "answer": "4"}, {"problem": "3 + 3?", "reference": 6}, {"question": "?"}]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    options, _ = read_command(arguments(folder, "--data", path, "--output", "unused"))
    data = load_questions(options)
    assert [(row["id"], row["question"], row["reference"]) for row in data.train] == [
        ("1", "2 + 2?", "4"),
        ("data.jsonl:2", "3 + 3?", "6"),
    ]
    assert any("1 questions have no answer to compare with" in note for note in data.notes)


def test_a_question_is_said_twice_and_taken_once(folder: Path, tmp_path: Path) -> None:
    record = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]}
    record["messages"].append({"role": "assistant", "content": "\\boxed{4}"})
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(record)}\n{json.dumps(record)}\n", encoding="utf-8")
    options, _ = read_command(arguments(folder, "--data", path, "--output", "unused"))
    data = load_questions(options)
    assert data.train["question"][:] == ["Be brief.\n\n2 + 2?"]
    assert data.train["reference"][:] == ["4"]
    assert any("1 questions are duplicates" in note for note in data.notes)


def test_what_the_template_makes_prompts_otherwise_is_said(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "no_header.jinja"
    template.write_text(CHATML.partition("{% if add_generation_prompt %}")[0], encoding="utf-8")
    options, _ = read_command(arguments(folder, "--chat-template", template, "--output", "unused"))
    assert sum("no generation prompt" in note for note in load_questions(options).notes) == 1
