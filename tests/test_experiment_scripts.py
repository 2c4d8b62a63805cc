"""Every script of `experiments/` that no other test runs, for real and as small as its options allow."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workbench import Workbench, small_label_arguments, tiny_model, tiny_tokenizer

from rolewise.cli.main import main
from rolewise.data.readers import read_conversations, write_conversations
from rolewise.generator import generate

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if "__main__" in path.read_text("utf-8"))
INPUTS = ["small_inputs", "baselines_inputs"]
DEFAULT = "lora, lr 1e-3, batch 2 (default)"
INTERVAL = {"estimate", "low", "high"}
BY_GROUP = [f"{group}, by {by}" for by in ("truth", "SHAD") for group in ("reasoning", "boilerplate")]

Script = Callable[..., None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script with these words in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: object) -> None:
        folder = ROOT / ("examples/experiments" if name in INPUTS else "experiments")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        runpy.run_path(str(folder / f"{name}.py"), run_name="__main__")

    return run


@pytest.fixture(scope="module")
def labelled(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of the bench's conversations, labelled by SHAD."""
    output = tmp_path_factory.mktemp("scripts") / "labelled"
    assert main(small_label_arguments(bench, output, "--limit", 12)) == 0
    return output


def read(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def written(folder: str) -> dict[str, int]:
    """When each of a folder's weights and tables was written."""
    files = [path for path in Path(folder).rglob("*") if path.suffix in (".safetensors", ".arrow")]
    return {str(path): path.stat().st_mtime_ns for path in files}


def refused(script: Script, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line with which a script ends, with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        script(*words)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", [*SCRIPTS, *INPUTS])
def test_every_script_tells_what_it_does(
    name: str, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script(name, "--help")
    assert ended.value.code == 0
    assert f"{name}.py" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["shad_settings", "--model", "./gone"], "./gone: no tokenizer found"),
        (["shad_settings", "--model", "./gone", "--random-weights"], "./gone: no tokenizer found"),
        (["grpo_vs_rest", "--model", "./gone"], "./gone: no tokenizer found"),
        (["sft_vs_rft", "--model", "./gone"], "./gone: no tokenizer found"),
        (["shad_agreement", "--models", "gone"], "gone: give NAME=VALUE"),
        (["shad_agreement", "--models", "A=gone", "--seeds", "B=2"], "B: no model has this name"),
        (["shad_threshold", "--data", "gone"], "gone: no labelled data set here"),
        (["shad_rarity", "--data", "gone"], "gone: no labelled data set here"),
        (
            ["engine_agreement", "--model", "m", "--first", "gone", "--second", "b", "--output", "o"],
            "gone: no finished",
        ),
        (["mix_tool_prompts", "--source", "gone.json", "--output", "o"], "gone.json: cannot read"),
        (["mix_tool_prompts", "--source", "a=x", "--output", "o"], "--source a=x: give FILE"),
        (["mix_tool_prompts", "--source", "a", "--benchmark", "b=gone", "--output", "o"], "--benchmark b=gone: no"),
        (["read_sources", "gone"], "gone: no such directory"),
        (["baselines_inputs", "gone"], "gone: cannot read"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: list[str], line: str, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(script, capsys, *words).startswith(f"{words[0]}.py: {line}")


def test_shad_settings_adds_to_its_rows_what_is_missing(bench: Workbench, script: Script) -> None:
    words = ["shad_settings", "--model", bench.model, "--samples", 6, "--output", "rows.json", "--figure", "figure.png"]
    script(*words, "--only", DEFAULT, "--seed", 1, "--keep", "kept")
    key = f"{DEFAULT}, 6 samples, seed 1"
    first = read("rows.json")
    assert list(first) == [key]
    row = first[key]
    assert row["samples"] == 6
    assert len(row["pairs"]) == 2
    assert set(row["auroc"]) == {"LD", "base loss", "regex"}
    for interval in (*row["auroc"].values(), row["auroc_where_reasoning_begins"], row["format_error"]):
        assert interval.keys() == INTERVAL
        assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert {"accuracy", "counts", "format_tokens", "tokens_tuned", "tokens_scored", "seconds"} <= row.keys()
    assert [file.name for file in Path("kept").iterdir()] == [f"{key}.npz"]

    script(*words, "--only", DEFAULT, "--seed", 1, "--random-weights")
    script(*words, "--only", DEFAULT, "--seed", 1, "--adapt", 8)
    rows = read("rows.json")
    assert list(rows) == [key, f"{key}, random weights", f"{key}, base adapted on 8"]
    assert rows[key] == row
    assert len({each["auroc"]["LD"]["estimate"] for each in rows.values()}) == 3
    assert Path("figure.png").stat().st_size > 1000


def test_shad_agreement_compares_every_two_labellings_and_the_truth(bench: Workbench, script: Script) -> None:
    texts = [str(m["content"]) for c in read_conversations(str(bench.data)).conversations for m in c.messages]
    other = tiny_tokenizer(texts, vocab_size=500)
    other.save_pretrained("other")
    tiny_model(len(other)).save_pretrained("other")
    words = ["shad_agreement", "--models", f"A={bench.model}", "B=other", "--seeds", "A=2", "--samples", 6]
    words += ["--work", "work", "--output", "found.json"]
    script(*words)
    found = read("found.json")
    assert list(found["labellings"]) == ["A, seed 0", "A, seed 1", "B, seed 0"]
    assert len(found["pairs"]) == 2 * 6  # of three labellings and the truth every two, at two thresholds
    for row in found["labellings"].values():
        assert {"auroc_where_reasoning_begins", "format_error", "true_share", "share_above_0", "seconds"} <= row.keys()
        assert row["auroc"]["LD"].keys() == INTERVAL
    for key, row in found["pairs"].items():
        assert row["share"].keys() == row["kappa"].keys() == INTERVAL
        assert ("rank_correlation" in row) == ("truth" not in key.partition(",")[2].split("/")[-1])
    made = written("work")
    before = Path("found.json").read_bytes()
    script(*words)
    assert written("work") == made
    assert Path("found.json").read_bytes() == before


def test_shad_threshold_moves_and_calibrates_it(labelled: Path, script: Script) -> None:
    words = ["shad_threshold", "--data", labelled, "--shares", 0.02, 0.2, "--halvings", 3, "--output"]
    script(*words, "found.json")
    [result] = read("found.json")["data"].values()
    assert result["samples"] == 12
    assert len(result["fixed"]) == 10
    names = {"format error", "reasoning told right", "balanced accuracy", "balanced accuracy without sure format"}
    for row in (*result["fixed"].values(), *result["calibrated"].values()):
        assert names <= row.keys()
    errors = [row["format error"]["estimate"] for row in result["fixed"].values()]
    assert errors == sorted(errors, reverse=True)
    assert result["calibrated"]["0.02"]["threshold"] > result["calibrated"]["0.2"]["threshold"]
    assert result["best"]["balanced accuracy"] >= result["fixed"]["0.0"]["balanced accuracy"]["estimate"]
    script(*words, "again.json")
    assert Path("again.json").read_bytes() == Path("found.json").read_bytes()


def test_token_weights_trains_each_arm_once(
    bench: Workbench, labelled: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["token_weights", "--model", bench.model, "--labelled", labelled, "--held-out", 3, "--work", "work"]
    words += ["--output", "found.json", "--arms"]
    script(*words, "none", "difference-sigmoid")
    found = read("found.json")
    assert (found["held_out"], found["trained_on"], found["seeds"]) == (3, 12, 1)
    assert list(found["arms"]) == ["base", "none", "difference-sigmoid"]
    for arm, row in found["arms"].items():
        for group in ("reasoning", "boilerplate"):
            assert row[group]["by_token"] > 0
            assert ("less_sft" in row[group]) == (arm == "difference-sigmoid")
    made = written("work")
    script(*words, "none", "difference-sigmoid", "rft")
    again = read("found.json")
    assert {arm: again["arms"][arm] for arm in found["arms"]} == found["arms"]
    assert made.items() <= written("work").items()
    assert len(written("work")) > len(made)
    with pytest.raises(SystemExit):
        script(*words, "rft")
    assert "the other arms are compared with none" in capsys.readouterr().err


def test_sft_vs_rft_compares_four_arms_by_the_truth_and_by_shad(bench: Workbench, script: Script) -> None:
    words = ["sft_vs_rft", "--model", bench.model, "--train", 8, "--held-out", 4, "--seeds", 2, "--work", "work"]
    words += ["--label-options", '{"epochs": 1}', "--output", "found.json", "--figure", "figure.png"]
    script(*words)
    found = read("found.json")
    arms = ["SFT", "SFT, mean per sample", "RFT, 1/τ = 0", "RFT, 1/τ = 0.3"]
    assert found["steps"] == 4
    assert list(found["means"]) == ["base", *arms]
    assert list(found["differences"]) == arms[1:]
    assert list(found["labels"]) == ["train", "eval"]
    for row in found["means"].values():
        assert sorted(row) == sorted(BY_GROUP)
    for row in found["differences"].values():
        assert sorted(row) == sorted(BY_GROUP)
        assert all(cell.keys() == INTERVAL | {"by_seed"} and len(cell["by_seed"]) == 2 for cell in row.values())
    assert Path("figure.png").stat().st_size > 1000
    made = written("work")
    script(*words)
    assert written("work") == made
    assert {**read("found.json"), "seconds": 0} == {**found, "seconds": 0}


def test_grpo_vs_rest_trains_every_arm_from_one_model(script: Script) -> None:
    words = ["grpo_vs_rest", "--conversations", 10, "--trained-on", 2, "--held-out", 2, "--sft-steps", 2, "--seeds", 2]
    words += ["--steps", 1, "--prompts", 1, "--samples", 2, "--tokens", 4, "--work", "work"]
    words += ["--output", "found.json", "--figure", "figure.png"]
    script(*words)
    found = read("found.json")
    arms = ["GRPO", "ResT", "ResT, official", "ResT, static", "RFT on SHAD's roles"]
    assert list(found["exact"]) == ["SFT", *arms]
    for arm in arms:
        assert [[count["of"] for count in counts] for counts in found["exact"][arm].values()] == [
            [found["exact"]["SFT"][split][0]["of"]] * 2 for split in ("trained on", "held out")
        ]
        assert len(found["reward"][arm]) == len(found["training_seconds"][arm]) == 2
        for curves in found["curves"][arm]:
            assert {name: len(values) for name, values in curves.items()} == {
                "reward": 1,
                "entropy": 1,
                "policy_gradient/variance": 1,
            }
        assert {"share", "weight"} <= next(iter(found["regions"][arm].values())).keys()
    assert list(found["against_grpo"]) == arms[1:]
    assert 0 < sum(found["reference_shares"].values()) <= 1.0001
    assert Path("figure.png").stat().st_size > 1000
    made, before = written("work"), Path("found.json").read_bytes()
    script(*words)
    assert written("work") == made
    assert Path("found.json").read_bytes() == before


@pytest.mark.slow
def test_rftt_arithmetic_goes_from_nothing_to_curves(script: Script) -> None:
    words = ["rftt_arithmetic", "--base-steps", 150, "--train", 8, "--held-out", 4, "--rollouts", 2, "--seeds", 1]
    words += ["--warmup-steps", 2, "--reinforce-steps", 1, "--work", "work"]
    words += ["--output", "found.json", "--figure", "figure.png"]
    script(*words)
    found = read("found.json")
    assert len(found["accuracy"]) == 8
    for runs in found["accuracy"].values():
        [run] = runs
        assert [point["rollouts"] for point in run] == [1, 2]
        assert all(point.keys() == INTERVAL | {"rollouts"} for point in run)
    assert found["warm_up_data"]["trees"] == 8
    assert Path("figure.png").stat().st_size > 1000
    made, before = written("work"), Path("found.json").read_bytes()
    script(*words)
    assert written("work") == made
    assert Path("found.json").read_bytes() == before


def test_engine_agreement_finds_the_answer_that_parts(
    bench: Workbench, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    write_conversations(generate(4, seed=0, formats=("rlla",)), Path("asked.jsonl"))
    words = ["eval", "--model", bench.model, "--suite", "calls:asked.jsonl", "--max-new-tokens", 6, "--output", "one"]
    assert main([str(word) for word in words]) == 0
    shutil.copytree("one", "two")
    [answers] = Path("two", "answers").glob("*.jsonl")
    records = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    ids = records[0]["asked"][0]["ids"][0]
    ids[2] = ids[2] + 1 if ids[2] < 600 else ids[2] - 1
    answers.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    words = ["engine_agreement", "--model", bench.model, "--first", "one", "--second", "two", "--output", "found.json"]
    script(*words)
    found = read("found.json")
    assert found["summary"]["examples"] == len(records) == len(found["examples"])
    assert found["summary"]["the same answer"] == len(records) - 1
    assert found["summary"]["parted elsewhere"] == 1
    [parted] = [each for each in found["examples"].values() if each["gap"] is not None]
    assert parted["equal"] == 2
    assert parted["gap"] > 0.001
    assert found["engines"]["first"]["model"] == bench.model.name

    records[0]["asked"][0]["prompt"] += " "
    answers.write_text(json.dumps(records[0]) + "\n", encoding="utf-8")
    assert "the two runs asked differently" in refused(script, capsys, *words)
    answers.write_text("", encoding="utf-8")
    assert "have no example in common" in refused(script, capsys, *words)


def test_label_memory_measures_a_process_of_its_own(script: Script, tmp_path: Path) -> None:
    script("label_memory", "--samples", 40, "--output", "found.json")
    [(samples, run)] = read("found.json")["runs"].items()
    assert samples == "40"
    assert 50 < run["MiB"] < 5000
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_mix_tool_prompts_leaves_out_what_a_benchmark_asks(script: Script) -> None:
    made = generate(12, seed=3, formats=("rlla",))
    write_conversations(made, Path("source.jsonl"))
    asked = next(message["content"] for message in made[0].messages if message["role"] == "user")
    Path("bench").mkdir()
    texts = [asked, "Say in a sentence what the weather will be like tomorrow."]
    questions = [json.dumps({"question": [[{"role": "user", "content": text}]]}) for text in texts]
    Path("bench/questions.json").write_text("\n".join(questions))
    Path("bench/scores.json").write_text("[[1, 2]]")
    words = ["mix_tool_prompts", "--source", "source.jsonl", "--source", "source.jsonl=3", "--benchmark", "known=bench"]
    script(*words, "--output", "mixed.jsonl")
    report = read("mixed.report.json")["sources"]["source.jsonl"]
    assert report["conversations"] == 12
    assert report["in known"] == 1
    assert report["taken"] == 0  # the second time all are known
    mixed = Path("mixed.jsonl").read_bytes()
    assert asked not in mixed.decode()
    assert 3 <= len(mixed.splitlines()) == report["repeated"]
    script(*words, "--output", "again.jsonl")
    assert Path("again.jsonl").read_bytes() == mixed


def test_read_sources_has_a_row_for_every_file_even_one_that_can_t_be_read(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").mkdir()
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [{"role": "user", "content": "Add 1."}, {"role": "assistant", "content": "", "tool_calls": [call, call]}]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    records = [
        {"messages": messages, "tools": tools},
        {"messages": [messages[0], {"role": "assistant", "content": "2"}]},
    ]
    Path("data/good.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    Path("data/latin.json").write_bytes(b'{"messages": "\xe4"}')
    Path("data/notes.txt").write_text("no data")
    script("read_sources", "data")
    _, _, good, latin = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in good.split("|")][1:7] == ["good.jsonl", "messages", "2", "2", "1", "2"]
    assert latin.startswith("| latin.json |")
    assert "not UTF-8" in latin
