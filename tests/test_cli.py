"""The commands from end to end, as a user gives them."""

import json
import os
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from datasets import load_from_disk
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from workbench import Workbench, files_of, rolewise, small_label_arguments

from rolewise.cli.main import COMMANDS, main
from rolewise.core.role import Role

SMALL_SFT = (
    "--max-steps",
    "4",
    "--per-device-train-batch-size",
    "4",
    "--logging-steps",
    "1",
    "--learning-rate",
    "1e-3",
)
SMALL_SFT += ("--generations", "1", "--generation-tokens", "4")
MORE_SFT = ("--eval-share", "0.25", "--merge", "--gradient-accumulation-steps", "2")


@pytest.fixture(scope="module")
def workshop(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `label` and then `sft --merge` were run, each in a process of its own; what they printed."""
    folder = tmp_path_factory.mktemp("workshop")
    commands = {
        "label": small_label_arguments(bench, Path("labelled")),
        "sft": ["sft", "--model", str(bench.model), "--data", "labelled", "--output", "tuned", *SMALL_SFT, *MORE_SFT],
    }
    for name, arguments in commands.items():
        result = rolewise(*arguments, cwd=folder)
        assert result.returncode == 0, result.stderr
        (folder / f"{name}.out").write_text(result.stdout, encoding="utf-8")
        (folder / f"{name}.err").write_text(result.stderr, encoding="utf-8")
        (folder / f"{name}.err").write_text(result.stderr, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_whoever_may_read_new_files_may_read_every_result(workshop, bench, tmp_path, capsys):
    main(["export", "--data", str(workshop / "labelled"), "--output", str(tmp_path / "weights.parquet")])
    axolotl = ["--to", "axolotl", "--weighting", "none", "--output", str(tmp_path / "weights.jsonl")]
    main(["export", "--data", str(workshop / "labelled"), *axolotl])
    data = ["--data", str(workshop / "labelled"), "--output", str(tmp_path / "moved")]
    main(["transfer", "--model", str(bench.model), *data])
    mask = os.umask(0)
    os.umask(mask)
    found = {}
    for folder in (workshop / "labelled", workshop / "tuned", tmp_path):
        for path in folder.rglob("*"):
            found[str(path)] = path.stat().st_mode & 0o777
            assert found[str(path)] == (0o777 if path.is_dir() else 0o666) & ~mask, path
    endings = {Path(name).suffix for name in found}
    assert {".safetensors", ".arrow", ".parquet", ".jsonl", ".json", ".yaml", ".html"} <= endings


class TestLabel:
    def test_prints_roles_checks_and_places(self, workshop):
        out = read(workshop, "label.out")
        for expected in ("Tokens by role", "reasoning", "AUROC of LD against the truth", "labelled data set: labelled"):
            assert expected in out
        assert {"rolewise.json", "report.html", "config.yaml", "run.json"} <= files_of(workshop / "labelled").keys()

    @pytest.mark.parametrize("command", ["label", "sft"])
    def test_the_terminal_shows_progress_and_no_library_noise(self, workshop, command):
        lines = [line for line in read(workshop, f"{command}.err").splitlines() if line.strip()]
        allowed = ("note: ", "tune on ", "score, ", "answers ", "train, ", "warning: the model's mean loss")
        assert [line for line in lines if not line.startswith(allowed)] == []
        assert len(lines) == len(set(lines))

    def test_the_same_command_again_does_nothing_and_says_so(self, bench, workshop, monkeypatch, capsys):
        monkeypatch.chdir(workshop)
        before = {p: p.stat().st_mtime_ns for p in Path("labelled").rglob("*")}
        assert main(small_label_arguments(bench, Path("labelled"))) == 0
        captured = capsys.readouterr()
        assert "labelled: already labelled with these settings and data; nothing was done" in captured.err
        assert "AUROC of LD" in captured.out
        assert {p: p.stat().st_mtime_ns for p in Path("labelled").rglob("*")} == before

    def test_another_setting_on_the_same_output_is_refused_in_one_line(self, bench, workshop, monkeypatch, capsys):
        monkeypatch.chdir(workshop)
        before = files_of(Path("labelled"))
        assert main(small_label_arguments(bench, Path("labelled"), "--seed", 5)) == 2
        refusals = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rolewise label:")]
        assert refusals == [
            "rolewise label: labelled: holds a run with other settings or inputs; choose another output or remove it"
        ]
        assert files_of(Path("labelled")) == before

    def test_the_written_config_runs_again_and_gives_the_same_data(self, workshop, monkeypatch, capsys):
        monkeypatch.chdir(workshop)
        assert main(["label", "--config", "labelled/config.yaml"]) == 0
        assert "nothing was done" in capsys.readouterr().err
        assert main(["label", "--config", "labelled/config.yaml", "--output", "again"]) == 0
        first, second = files_of(Path("labelled")), files_of(Path("again"))
        different = [name for name in first if first[name] != second[name]]
        assert set(different) <= {"config.yaml", "run.json", "report.html"}  # they name the output

    def test_regex_needs_no_model_weights_and_measures_no_losses(self, bench, tmp_path, capsys):
        arguments = ["label", "--model", bench.model, "--data", bench.data, "--output", tmp_path / "regex"]
        assert main([*map(str, arguments), "--method", "regex"]) == 0
        rows = load_from_disk(str(tmp_path / "regex"))
        roles = np.concatenate(rows["token_roles"])
        assert set(np.unique(roles)) == {Role.CONTEXT, Role.FORMAT, Role.REASONING}
        assert np.isnan(np.concatenate(rows["base_loss"]).astype(float)).all()
        out = capsys.readouterr().out
        assert "format tokens labelled reasoning" not in out  # they are the regex's own: it would be no check
        assert "AUROC of base loss" not in out  # there are none

    def test_plan_says_what_would_be_done_and_writes_nothing(self, bench, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        Path("data.jsonl").write_text(
            bench.data.read_text(encoding="utf-8") + '{"messages": []}\n{\n', encoding="utf-8"
        )
        arguments = [
            "label",
            "--model",
            bench.model,
            "--data",
            "data.jsonl",
            "--output",
            "out",
            "--method",
            "shad",
            "--min-pairs",
            8,
        ]
        assert main([*map(str, arguments), "--skip-invalid", "--plan"]) == 0
        captured = capsys.readouterr()
        rows = {
            cells[1].strip(): cells[2].strip()
            for line in captured.out.splitlines()
            if len(cells := line.split("│")) > 2
        }
        assert (rows["conversations"], rows["samples"], rows["left out"]) == ("24", "24", "2")
        assert (rows["models to tune"], rows["shuffled pairs, each"], rows["device"]) == ("2", "8", "cpu")
        assert rows["approximate time"].endswith("min")
        assert rows["approximate memory"].endswith("GiB")
        left_out = [line for line in captured.err.splitlines() if line.startswith("left out: ")]
        assert len(left_out) == 2
        assert "data.jsonl:25" in left_out[0]
        assert "data.jsonl:26" in left_out[1]
        assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


class TestSft:
    def test_its_data_stays_as_it_was(self, workshop):
        assert not list((workshop / "labelled").glob("cache-*"))

    def test_every_log_line_carries_the_roles(self, workshop):
        log = [json.loads(line) for line in read(workshop, "tuned/log.jsonl").splitlines()]
        training = [entry for entry in log if "loss" in entry]
        assert [entry["step"] for entry in training] == [1, 2, 3, 4]
        for entry in training:
            assert entry["share_reasoning"] + entry["share_boilerplate"] == pytest.approx(1)
            assert entry["weight_reasoning"] + entry["weight_boilerplate"] == pytest.approx(1)
        held_out = [entry for entry in log if "eval_loss" in entry]
        assert held_out
        assert all(np.isfinite(entry["eval_loss_reasoning"]) for entry in held_out)
        assert "Held-out loss by role" in read(workshop, "sft.out")

    def test_the_merged_model_is_the_adapter_on_its_base(self, bench, workshop):
        base = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
        ids = torch.arange(40)[None] * 7
        with torch.no_grad():
            plain = base(input_ids=ids).logits
            adapted = PeftModel.from_pretrained(base, workshop / "tuned").eval()(input_ids=ids).logits
            merged = AutoModelForCausalLM.from_pretrained(workshop / "tuned" / "merged", dtype=torch.float32)
            torch.testing.assert_close(merged.eval()(input_ids=ids).logits, adapted, atol=1e-4, rtol=0)
        assert (adapted - plain).abs().max() > 1e-2

    def test_again_and_from_its_config_nothing_is_done(self, bench, workshop, monkeypatch, capsys):
        monkeypatch.chdir(workshop)
        before = files_of(Path("tuned"))
        assert main(["sft", "--config", "tuned/config.yaml"]) == 0
        assert "tuned: already trained" in capsys.readouterr().err
        assert main(["sft", "--config", "tuned/config.yaml", "--inv-tau", "1.0"]) == 2
        assert "tuned: holds a run with other settings or inputs" in capsys.readouterr().err
        assert files_of(Path("tuned")) == before

    def test_all_weights_on_unlabelled_conversations(self, bench, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        arguments = ["sft", "--model", bench.model, "--data", bench.data, "--output", "full", "--weighting", "none"]
        assert main([*map(str, arguments), "--no-lora", *SMALL_SFT]) == 0
        tuned = load_file("full/model.safetensors")
        base = load_file(bench.model / "model.safetensors")
        assert tuned.keys() == base.keys()
        assert all(not torch.equal(tuned[name], base[name]) for name in base)
        log = [json.loads(line) for line in Path("full/log.jsonl").read_text().splitlines()]
        assert log[0]["share_plain"] == 1


class TestConfigFiles:
    def test_flags_win_over_yaml(self, bench, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        settings = {
            "model": str(bench.model),
            "data": str(bench.data),
            "method": "regex",
            "output": "from-yaml",
            "limit": 3,
        }
        Path("label.yaml").write_text(yaml.safe_dump(settings))
        assert main(["label", "--config", "label.yaml", "--output", "from-flag", "--max_length=900"]) == 0
        assert not Path("from-yaml").exists()
        written = yaml.safe_load(Path("from-flag/config.yaml").read_text())
        assert (written["output"], written["limit"], written["max_length"]) == ("from-flag", 3, 900)

    def test_of_view_and_relabel(self, workshop, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        Path("view.yaml").write_text(yaml.safe_dump({"data": str(workshop / "labelled"), "output": "page.html"}))
        assert main(["view", "--config", "view.yaml", "--samples", "3"]) == 0
        assert capsys.readouterr().out == "page: page.html\n"
        assert "3 of 24 samples are shown" in Path("page.html").read_text(encoding="utf-8")

        Path("relabel.yaml").write_text(f"data: {workshop / 'labelled'}\nthreshold: 9\nformat_quantile: null\n")
        assert main(["relabel", "--config", "relabel.yaml", "--output", "all"]) == 0
        roles = np.concatenate(load_from_disk("all")["token_roles"])
        assert set(np.unique(roles)) == {Role.CONTEXT, Role.BOILERPLATE}
        assert main(["relabel", "--config", "all/config.yaml"]) == 0
        assert "nothing was done" in capsys.readouterr().err

        assert main(["relabel", "--data", str(workshop / "labelled"), "--format-error", "0.1", "--output", "by"]) == 0
        assert main(["relabel", "--config", "by/config.yaml"]) == 0
        assert "nothing was done" in capsys.readouterr().err

    def test_of_sft(self, bench, workshop, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        settings = {
            "model": str(bench.model),
            "data": str(workshop / "labelled"),
            "output": "none",
            "weighting": "none",
        }
        settings |= {
            "max_steps": 1,
            "learning_rate": "1e-4",
            "generations": 0,
            "rank": 4,
            "gradient_checkpointing": False,
        }
        Path("sft.yaml").write_text(yaml.safe_dump(settings))
        assert main(["sft", "--config", "sft.yaml", "--rank", "2"]) == 0
        assert json.loads(Path("none/adapter_config.json").read_text())["r"] == 2
        written = yaml.safe_load(Path("none/config.yaml").read_text())
        assert (written["learning_rate"], written["max_steps"], written["gradient_checkpointing"]) == (1e-4, 1, False)


class TestShortRuns:
    """Fewer steps than `logging_steps`: the numbers of the first and the last step are there all the same."""

    def test_have_first_and_last_numbers(self, bench, workshop, tmp_path):
        arguments = ["sft", "--model", bench.model, "--data", workshop / "labelled", "--output", tmp_path / "tuned"]
        arguments += ["--max-steps", 4, "--per-device-train-batch-size", 4, "--generations", 0, "--eval-share", 0.25]
        assert main([*map(str, arguments), "--learning-rate", "1e-3"]) == 0
        log = [json.loads(line) for line in (tmp_path / "tuned" / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in log if "loss" in line] == [1, 4]
        held_out = [line for line in log if "eval_loss" in line]
        assert held_out[0]["step"] == 0
        assert held_out[-1]["eval_loss_reasoning"] != held_out[0]["eval_loss_reasoning"]

    def test_progress_is_told_in_lines_where_bars_cannot_be_drawn(self, workshop):
        lines = (workshop / "label.err").read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("tune on ")
        *_, score, warning = lines
        assert re.fullmatch(r"score, base and tuned: ([\d,]+) of \1", score)
        assert warning.startswith("warning: the model's mean loss")  # of random weights, drawn widely


class TestChatTemplateOfOnesOwn:
    """The model learns to answer in the template that its data was written with, so its tokenizer must hold that."""

    TEMPLATE = (
        "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
    )

    @pytest.fixture
    def template(self, tmp_path: Path) -> Path:
        path = tmp_path / "template.jinja"
        path.write_text(self.TEMPLATE)
        return path

    def sft(self, bench: Workbench, data: Path, output: Path, *more: Any) -> int:
        arguments = ["sft", "--model", bench.model, "--data", data, "--output", output, *SMALL_SFT, *more]
        return main([str(argument) for argument in arguments])

    def test_comes_with_labelled_data(self, bench, template, tmp_path, capsys):
        arguments = ["label", "--model", bench.model, "--data", bench.data, "--output", tmp_path / "labelled"]
        assert main([*map(str, arguments), "--method", "regex", "--chat-template", str(template)]) == 0
        assert self.sft(bench, tmp_path / "labelled", tmp_path / "tuned") == 0
        assert AutoTokenizer.from_pretrained(tmp_path / "tuned").chat_template == self.TEMPLATE
        assert self.sft(bench, tmp_path / "labelled", tmp_path / "no", "--chat-template", template) == 2
        assert "is already labelled, so chat_template would change nothing" in capsys.readouterr().err

    def test_can_be_given_for_conversations(self, bench, template, tmp_path, capsys):
        more = ["--weighting", "none", "--chat-template", template, "--tool-format", "rlla"]
        assert self.sft(bench, bench.data, tmp_path / "tuned", *more) == 0
        assert AutoTokenizer.from_pretrained(tmp_path / "tuned").chat_template == self.TEMPLATE
        assert self.sft(bench, bench.data, tmp_path / "tuned", *more[:3], template) == 2  # another tool format

    def test_of_the_held_out_data_must_be_the_same(self, bench, workshop, template, tmp_path, capsys):
        arguments = ["label", "--model", bench.model, "--data", bench.data, "--output", tmp_path / "other"]
        assert main([*map(str, arguments), "--method", "regex", "--chat-template", str(template)]) == 0
        assert self.sft(bench, workshop / "labelled", tmp_path / "no", "--eval-data", tmp_path / "other") == 2
        assert "other: rendered with a different chat template than" in capsys.readouterr().err


class TestHelp:
    @pytest.mark.parametrize("command", [name for name in COMMANDS if name != "sft"])
    def test_is_quick_and_shows_an_example(self, command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = rolewise(command, "--help")
        assert result.returncode == 0
        assert result.stderr == ""
        assert f"rolewise {command} " in result.stdout
        assert "--config FILE" in result.stdout or command in ("schema", "completion")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime - before.ru_utime < 1  # of the processor, whatever else the machine does

    def test_of_sft_names_the_usual_training_options(self, capsys):
        assert main(["sft", "--help"]) == 0
        assert "--learning-rate" in capsys.readouterr().out

    def test_without_a_command_and_with_an_unknown_one(self, capsys):
        assert main([]) == 0
        shown = capsys.readouterr().out
        assert [name for name in COMMANDS if name not in shown] == []
        assert main(["lable"]) == 2
        assert capsys.readouterr().err.startswith("rolewise: 'lable' is not a command")
