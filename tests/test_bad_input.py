"""What a user sees when something is wrong: one line that names the place, exit code 2, and nothing half-made."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_run_directory import file_size_limit
from workbench import Workbench, lasting_files_of, rolewise, small_label_arguments, tiny_tokenizer

from rolewise.cli.main import main

Run = Callable[..., str]
NAN = str(math.nan)


def record(*messages: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]}) + "\n"


@pytest.fixture(scope="module")
def labelled(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bad") / "labelled"
    assert main(small_label_arguments(bench, output)) == 0
    return output


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must be refused, in an empty folder; returns its one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert code == 2, captured
        assert captured.out == ""
        assert lines[-1].startswith(f"rolewise {arguments[0]}: ")
        # Above it there may be remarks on the data, nothing else.
        assert all(line.startswith(("note: ", "left out: ")) for line in lines[:-1]), lines
        assert sorted(tmp_path.rglob("*")) == before
        return lines[-1].removeprefix(f"rolewise {arguments[0]}: ")

    return run


class TestData:
    @pytest.mark.parametrize(
        ("content", "place", "message"),
        [
            ('{"messages": [\n', "data.jsonl:3", "broken JSON"),
            (record(("user", "hi"), ("assistant", " ")), "data.jsonl:3: message 2", "empty assistant turn"),
            (record(("user", "hi"), ("tool", "3"), ("assistant", "x")), "data.jsonl:3: message 2", "a tool result"),
            (record(("user", "hi")), "data.jsonl:3", "no assistant turn"),
            (
                record(("user", "hi " * 900), ("assistant", "x")),
                "data.jsonl:3",
                "no assistant token left after cutting",
            ),
            ('{"prompt": "hi"}\n', "data.jsonl:3", "expected messages"),
            ("[1]\n", "data.jsonl:3", "expected a JSON object"),
            ('{"messages": "hi"}\n', "data.jsonl:3", "must be a list"),
            ('{"messages": [{"role": "bot", "content": "x"}]}\n', "data.jsonl:3: message 1", "has role 'bot'"),
        ],
        ids=["broken", "empty turn", "orphan result", "no answer", "too long", "keys", "list", "text", "role"],
    )
    def test_a_bad_record_is_named_by_file_and_line(self, bench, refused, tmp_path, content, place, message):
        good = bench.data.read_text(encoding="utf-8").splitlines(keepends=True)
        Path("data.jsonl").write_text("".join(good[:2]) + content + "".join(good[2:]), encoding="utf-8")
        line = refused("label", "--model", bench.model, "--data", "data.jsonl", "--output", "out", "--max-length", 512)
        assert line.startswith(place)
        assert message in line

    @pytest.mark.parametrize(
        ("content", "message"),
        [("", "the file is empty"), ("{}\n", "unknown format"), ('{"foo": 1}\n', "unknown format with the keys foo")],
    )
    def test_a_file_without_conversations_is_named(self, bench, refused, content, message):
        Path("data.jsonl").write_text(content)
        line = refused("label", "--model", bench.model, "--data", "data.jsonl", "--output", "out")
        assert line.startswith("data.jsonl: ")
        assert message in line

    def test_missing_files_and_directories_in_their_place(self, bench, refused):
        Path("folder").mkdir()
        label = ("label", "--model", bench.model, "--output", "out", "--data")
        assert refused(*label, "missing.jsonl") == "missing.jsonl: cannot read: No such file or directory"
        assert refused(*label, "folder").startswith("folder: holds neither a data set nor files of .jsonl")
        assert refused(*label, bench.data, "--config", "missing.yaml").startswith(
            "missing.yaml: cannot read the config"
        )
        assert refused(*label, bench.data, "--config", "folder").startswith("folder: cannot read the config")
        assert refused(*label, bench.data, "--chat-template", "missing.jinja").startswith(
            "--chat-template missing.jinja"
        )
        sft = ("sft", "--model", bench.model, "--output", "out", "--data")
        assert refused(*sft, "folder").startswith("folder: no labelled data set here")
        assert refused("view", "--data", "folder").startswith("folder: no labelled data set here")
        assert refused("relabel", "--data", "folder", "--output", "out").startswith("folder: no labelled data set here")

    def test_too_few_conversations(self, bench, refused):
        line = refused(*small_label_arguments(bench, Path("out"), "--limit", 3))
        assert line.startswith("3 conversations are too few")

    def test_roles_are_needed_but_the_data_has_none(self, bench, refused):
        for weighting in ("rft", "alpha"):
            line = refused(
                "sft", "--model", bench.model, "--output", "o", "--data", bench.data, "--weighting", weighting
            )
            assert line.startswith(f"{bench.data}: weighting {weighting} needs a labelled data set")

    def test_labels_of_another_tokenizer(self, bench, labelled, refused, tmp_path_factory):
        other = tmp_path_factory.mktemp("other") / "model"
        shutil.copytree(bench.model, other)
        tiny_tokenizer(["quite another text"], vocab_size=300).save_pretrained(other)
        line = refused("sft", "--model", other, "--data", labelled, "--output", "out")
        assert line.startswith(f"{labelled}: labelled with the tokenizer of {bench.model}")


class TestModel:
    @pytest.fixture
    def model(self, bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
        copy = tmp_path_factory.mktemp("model") / "model"
        shutil.copytree(bench.model, copy)
        return copy

    def test_an_adapter_is_no_model(self, bench, labelled, refused):
        Path("adapter").mkdir()
        Path("adapter/adapter_config.json").write_text("{}")
        shutil.copy(bench.model / "tokenizer.json", "adapter")
        line = refused("sft", "--model", "adapter", "--data", labelled, "--output", "out")
        assert line.startswith("adapter: an adapter, not a whole model; give the model with the adapter merged in")

    def test_no_model_or_a_broken_one(self, bench, refused, model, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        label = ("label", "--data", bench.data, "--output", "out", "--method", "shad", "--min-pairs", 8, "--model")
        assert refused(*label, "no/such-model").startswith("no/such-model: no tokenizer found")
        Path("empty").mkdir()
        assert refused(*label, "empty").startswith("empty: this folder holds no tokenizer")
        weights = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
        assert refused(*label, model).startswith(f"{model}: this folder holds no model that transformers can load (")
        (model / "model.safetensors").unlink()
        assert refused(*label, model).startswith(f"{model}: this folder holds no model that transformers can load (")
        (model / "config.json").write_text("{")
        assert refused(*label, model).startswith(f"{model}: this folder holds no ")

    def test_no_chat_template_or_one_that_cannot_be_masked(self, bench, refused, model):
        (model / "chat_template.jinja").unlink()
        label = ("label", "--data", bench.data, "--output", "out", "--model", model)
        assert refused(*label).startswith("the tokenizer has no chat template; pass --chat-template")
        Path("loud.jinja").write_text("{% for m in messages %}{{ m.content | upper }}{% endfor %}")
        assert "the chat template drops the assistant's content" in refused(*label, "--chat-template", "loud.jinja")
        Path("broken.jinja").write_text("{% for m in %}")
        assert refused(*label, "--chat-template", "broken.jinja").startswith("the chat template fails: ")


class TestOptions:
    @pytest.mark.parametrize("name", ["rank", "epochs", "min-pairs", "batch-tokens", "limit", "max-length", "seed"])
    def test_counts_of_label(self, bench, refused, name):
        line = refused(*small_label_arguments(bench, Path("out")), f"--{name}", -1)
        assert line.startswith(f"{name.replace('-', '_')} is -1; ")
        line = refused(*small_label_arguments(bench, Path("out")), f"--{name}", NAN)
        assert line == f"--{name} is 'nan'; expected a whole number"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("shuffle-share", -0.1),
            ("shuffle-share", NAN),
            ("learning-rate", -1.0),
            ("learning-rate", NAN),
            ("threshold", NAN),
            ("threshold", "inf"),
            ("format-quantile", 1.5),
            ("format-quantile", NAN),
            ("dtype", "float8"),
            ("tuning", "half"),
            ("method", "magic"),
        ],
    )
    def test_values_of_label(self, bench, refused, name, value):
        line = refused(*small_label_arguments(bench, Path("out")), f"--{name}", value)
        assert line.startswith(
            (
                f"{name.replace('-', '_')} is {value}; ",
                f"--{name} {value!r} is not known; choose",
                f"{name} {value!r} is not known; choose",
            )
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("rank", 0),
            ("generations", -1),
            ("generation-tokens", 0),
            ("max-length", 1),
            ("eval-share", 1.0),
            ("eval-share", NAN),
            ("inv-tau", -1.0),
            ("inv-tau", NAN),
            ("learning-rate", -1.0),
            ("learning-rate", NAN),
            ("num-train-epochs", -1.0),
            ("num-train-epochs", NAN),
            ("max-steps", 0),
            ("per-device-train-batch-size", 0),
            ("gradient-accumulation-steps", -2),
            ("max-grad-norm", NAN),
            ("save-steps", 0),
            ("seed", -1),
        ],
    )
    def test_values_of_sft(self, bench, labelled, refused, name, value):
        line = refused("sft", "--model", bench.model, "--data", labelled, "--output", "out", f"--{name}", value)
        assert line.startswith(f"{name.replace('-', '_')} is {value}")

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--merge", "--no-lora"], "without LoRA there is nothing to merge"),
            (["--packing", "true", "--packing-strategy", "wrapped"], "packing_strategy wrapped splits samples"),
            (["--eval-strategy", "steps"], "eval_strategy needs evaluation data"),
            (["--eval-share", "0.01"], "leaves one side empty"),
            (["--learning-rte", "1"], "did you mean --learning-rate?"),
            (["--output-dir", "elsewhere"], "option --output-dir is not known"),
            (["--lr", "1"], "did you mean --learning-rate?"),
            (["--epochs", "3"], "did you mean --num-train-epochs?"),
            (["--server", "x"], "it belongs to rolewise sample, search, warmup and "),
            (["--general", "chat.jsonl"], "option --general is not known here; it belongs to rolewise label"),
            (["--max-length", "2"], "no token with loss is left after cutting to max_length=2"),
            (["--tool-format", "rlla"], "is already labelled, so tool_format would change nothing"),
            (["--eval-share", "0.5", "--eval-strategy", "no"], "eval_strategy no never evaluates"),
            (["--weighting", "alpha", "--alpha", "3"], "alpha is 3.0"),
            (["--eos-token", "<no such token>"], "<no such token>"),
            (["--optim", "adamw_8bit", "--generations", "0"], "bitsandbytes"),
            (["--lm-head", "foo"], "--lm-head 'foo' is not known; choose one of auto, fused"),
            (["--optim", "magic"], "--optim 'magic' is not known; choose one of adamw_torch"),
            (["--bf16", "maybe"], "--bf16 is 'maybe'; expected true or false"),
            (["stray"], "'stray' is not an option"),
        ],
    )
    def test_flags_of_sft(self, bench, labelled, refused, flags, message):
        assert message in refused("sft", "--model", bench.model, "--data", labelled, "--output", "out", *flags)

    def test_values_of_view_and_relabel(self, labelled, refused):
        assert refused("view", "--data", labelled, "--samples", 0).startswith("samples is 0; ")
        assert refused("view", "--data", labelled, "--threshold", NAN).startswith("threshold is nan; ")
        assert refused("view", "--data", labelled, "--inv-tau", -1).startswith("inv_tau is -1.0; ")
        relabel = ("relabel", "--data", labelled, "--output", "out")
        assert refused(*relabel, "--threshold", NAN).startswith("threshold is nan; ")
        assert refused(*relabel, "--format-error", 1).startswith(f"{labelled}: format_error is 1.0; ")
        assert refused(*relabel, "--format-error", 0.1, "--threshold", 0).startswith("give threshold or format_error")
        assert refused(*relabel, "--format-quantile", 2).startswith("format_quantile is 2.0; ")

    def test_what_is_missing_is_listed(self, refused):
        assert refused("label", "--model", "m") == "missing: --data, --output; see --help"
        assert refused("label", "--model", "m", "--data", "d", "--output", "") == "missing: --output; see --help"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("treshold: 0.1", "option 'treshold' is not known; did you mean threshold?"),
            ("rank: many", "rank is 'many'; expected a whole number"),
            ("rank: true", "rank is True; expected a whole number"),
            ("rank: [1, 2]", "rank is [1, 2]; expected a whole number"),
            ("cross_fit: 'no'", "cross_fit is 'no'; expected true or false"),
            ("data:", "data has no value"),
            ("- rank", "expected `option: value` lines, found a list"),
        ],
    )
    def test_the_config_file_is_named(self, bench, refused, text, message):
        Path("run.yaml").write_text(text)
        line = refused(*small_label_arguments(bench, Path("out")), "--config", "run.yaml")
        assert line.startswith(f"run.yaml: {message}")

    def test_broken_yaml_is_named_by_line(self, bench, refused):
        Path("run.yaml").write_text("rank: 3\nseed: [\n")
        assert refused(*small_label_arguments(bench, Path("out")), "--config", "run.yaml").startswith("run.yaml:3: ")


class TestOutput:
    def test_places_that_cannot_be_written(self, bench, refused, labelled):
        Path("file").write_text("mine")
        Path("folder").mkdir()
        regex = ("label", "--model", bench.model, "--data", bench.data, "--method", "regex", "--output")
        assert refused(*regex, "file").startswith("file: already exists")
        assert refused(*regex, "folder").startswith("folder: already exists")
        assert refused(*regex, "file/out").startswith("file/out.partial: cannot write: Not a directory")
        assert refused(*regex, ".").startswith("output '.' has no name")
        assert refused("view", "--data", labelled, "--output", "folder").startswith(
            "folder: cannot write: Is a directory"
        )
        assert refused("view", "--data", labelled, "--output", "file/x.html").startswith("file/x.html: cannot write")
        assert Path("file").read_text() == "mine"

    @pytest.mark.parametrize("option", ["output", "model", "plugin"])
    def test_a_name_that_is_too_long(self, bench, refused, option):
        """Not every look at a path is guarded: what the system says of it must be one line all the same."""
        name = "a" * 300
        options = {"model": bench.model, "data": bench.data, "method": "regex", "output": "out", option: name}
        given = [part for key, value in options.items() for part in (f"--{key}", value)]
        line = refused("label", *given)
        assert name in line
        assert "file name too long" in line.lower()

    @pytest.mark.parametrize("limit", [1000, 3000, 20_000, 60_000, 100_000])
    def test_a_full_disk_is_one_line_and_the_same_command_ends_as_if_nothing_had_been(
        self, bench, labelled, tmp_path, monkeypatch, capsys, limit
    ):
        """The limits hit, one after another, a checkpoint, the shards, the data set, the page."""
        monkeypatch.chdir(tmp_path)
        command = small_label_arguments(bench, Path("labelled"))
        with file_size_limit(limit):
            code = main(command)
        captured = capsys.readouterr()
        assert code == 2
        [line] = [line for line in captured.err.splitlines() if line.startswith("rolewise label: ")]
        assert "cannot write: File too large" in line or "no space left on the device" in line
        assert "Traceback" not in captured.err
        assert not Path("labelled").exists()
        assert main(command) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["labelled"]
        first, second = lasting_files_of(labelled), lasting_files_of(tmp_path / "labelled")
        assert first.keys() == second.keys()
        assert [name for name in first if first[name] != second[name]] == ["config.yaml"]  # it names the output


def test_a_file_that_torch_could_not_write_to_its_end_is_a_full_disk(monkeypatch, capsys):
    """What torch says depends on where in the file the disk was full."""

    def run(argv):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 203840 vs 203732")

    monkeypatch.setattr("rolewise.cli.label.run", run)
    assert main(["label"]) == 2
    assert "no space left on the device" in capsys.readouterr().err


def test_a_terminal_shows_one_line(bench, tmp_path):
    """Through a process of its own: nothing that a library prints at import or exit drowns the line."""
    (tmp_path / "data.jsonl").write_text("{\n")
    result = rolewise("label", "--model", bench.model, "--data", "data.jsonl", "--output", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("rolewise label: data.jsonl:1: broken JSON")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]
