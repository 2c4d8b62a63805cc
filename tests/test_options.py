"""Options: each value has one owner, one reader for YAML and flags, and parts that bring parameters of their own."""

import dataclasses
import json
import re
import shutil
import subprocess
from collections import Counter
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from transformers.trainer_utils import IntervalStrategy

from rolewise.cli.completion import _flags as flags_of
from rolewise.cli.main import COMMANDS, main
from rolewise.cli.parser import build_parser, command_of, parse, read_config
from rolewise.cli.schema import commands, schema_of
from rolewise.core.errors import InputError
from rolewise.core.option_fields import declaring, fields_of
from rolewise.core.options import Options, adapt, option, required
from rolewise.core.typed_values import read_text, read_value, schema
from rolewise.jobs.label_methods import settings_of
from rolewise.labelling.labellers import register_labeller
from rolewise.options.labelling import LabelOptions
from rolewise.options.table import OptionTable
from rolewise.options.training import SFTOptions
from rolewise.training.settings import SFTSettings
from rolewise.weighting import WEIGHTINGS

ROOT = Path(__file__).parents[1]
TABLES = {name: command.light_table() for name in COMMANDS if (command := command_of(name)) is not None}


def owners():
    """The classes that declare options, of all commands."""
    declared = {declaring(owner, name) for table in TABLES.values() for name, owner in table.owner_of.items()}
    return sorted(declared, key=lambda kind: kind.__qualname__)


class TestOwners:
    def test_no_class_repeats_anothers_field(self):
        verbatim = Counter(
            (name, str(described.annotation), str(described.default), described.help)
            for owner in owners()
            for name, described in fields_of(owner).items()
            if declaring(owner, name) is owner
        )
        assert [field for field, count in verbatim.items() if count > 1] == []

    def test_no_command_has_a_name_twice(self):
        for command, table in TABLES.items():
            names = [name for owner in table.owners for name in fields_of(owner)]
            assert [name for name, count in Counter(names).items() if count > 1] == [], command

    def test_no_trainer_repeats_its_commands_options(self):
        for command in ("sft", "grpo", "reinforce", "warmup"):
            found = import_module(f"rolewise.cli.{command}").COMMAND
            table = found.table()
            for name in fields_of(found.trainer_config()).keys() & fields_of(found.options).keys():
                assert table.owner_of[name] is found.options
                # TRL's own, which models that are handed over do not need; and the seed of the data that warmup makes.
                assert name in ("trust_remote_code", "data_seed")

    def test_a_default_that_a_command_changes_is_not_declared_again(self):
        @dataclasses.dataclass(kw_only=True)
        class Group(Options):
            rank: int = option(16, "Rank.", least=1)
            place: str = required("Where.")

        @dataclasses.dataclass(kw_only=True)
        @adapt("rank", default=4)
        @adapt("place", default=None, help="Elsewhere.")
        class Adapted(Group):
            pass

        assert (Adapted().rank, Adapted().place) == (4, None)
        assert fields_of(Adapted)["place"].help == "Elsewhere."
        assert declaring(Adapted, "rank") is Group
        with pytest.raises(InputError, match="rank is 0; it must be at least 1"):
            Adapted(rank=0)


class TestHelp:
    def test_every_option_stands_under_the_heading_of_its_group(self):
        groups = {name: described.group for name, described in fields_of(SFTOptions).items()}
        expected = {
            "model": "needed",
            "data": "needed",
            "format": "data",
            "eval_share": "data",
            "load_in_4bit": "model",
        }
        assert expected.items() <= groups.items()
        assert fields_of(TABLES["label"].owners[0])["limit"].group == "data"

    @pytest.mark.parametrize("command", TABLES)
    def test_texts_are_sentences_of_two_lines_at_most(self, command):
        table = TABLES[command]
        for name in table.names():
            text = table.help(name)
            assert text, name
            assert not re.match(r"(?:\w+(?:, \w+)*: )?(?:Of|Whose|What|Whether|How|Where|Who|So)\b", text), (name, text)
            assert len(text) <= 220, (name, len(text))
            assert text.endswith((".", "…")), (name, text)

    def test_parameters_of_parts_are_options(self, capsys):
        with pytest.raises(SystemExit):
            main(["export", "--help"])
        assert re.search(r"--inv-tau X +rft: 1/τ: 0 weights both groups alike", capsys.readouterr().out)

    def test_the_default_of_rft_stands_once(self):
        [parameter] = WEIGHTINGS.parameters("rft").values()
        assert (parameter.name, parameter.default) == ("inv_tau", 0.3)
        assert fields_of(SFTSettings)["weighting_args"].default is None


class TestReader:
    table = OptionTable("rolewise sft", [SFTOptions, SFTSettings])

    def read(self, *argv):
        return self.table.distributed(parse(self.table, build_parser(self.table, ""), argv))

    def test_parameters_go_to_their_part(self):
        read = self.read("--model", "m", "--inv-tau", "0.5", "--rank", "4")
        assert read == {SFTOptions: {"model": "m", "rank": 4}, SFTSettings: {"weighting_args": {"inv_tau": 0.5}}}

    def test_a_plugins_parameters_too(self):
        read = self.read("--weighting", "mine", "--weighting-arg", "scale=50", "--weighting-arg", "name=x=y")
        assert read[SFTSettings]["weighting_args"] == {"scale": 50, "name": "x=y"}

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--alpha", "0.1"], "alpha would change nothing with weighting rft, only with alpha"),
            (["--inv-tau", "x"], "--inv-tau is 'x'; expected a number"),
            (["--weighting-arg", "scale"], "--weighting-arg is 'scale'; expected NAME=VALUE"),
            (["--inv-tau", "1", "--weighting-arg", "inv_tau=2"], "inv_tau is 1.0, and in weighting_args 2"),
            (["--seeed", "1"], "option --seeed is not known"),
            (["--lora=maybe"], "--lora is 'maybe'; expected true or false"),
            (["--lora", "maybe"], "--lora is 'maybe'; expected true or false"),
            (["--dtype", "half"], "--dtype 'half' is not known; choose one of float32, bfloat16, float16"),
            (["--weighting-args", "{}"], "give each parameter as --weighting-arg NAME=VALUE"),
        ],
    )
    def test_mistakes_are_one_line(self, argv, message):
        with pytest.raises(InputError, match=re.escape(message)):
            self.read(*argv)

    def test_four_bits_are_for_one_process(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match="load_in_4bit spreads the model over all available devices"):
            SFTOptions(model="m", data="d", output="o", load_in_4bit=True)

    def test_a_default_that_a_file_spells_out_is_no_mistake(self, tmp_path):
        """Files of earlier versions list the parameters of every weighting."""
        path = tmp_path / "config.yaml"
        path.write_text("weighting: alpha\nalpha: 0.1\ninv_tau: 0.3\nformat_weight: 0.5\n")
        assert self.read("--config", str(path))[SFTSettings] == {
            "weighting": "alpha",
            "weighting_args": {"alpha": 0.1},
        }

    def test_an_option_that_is_gone_may_stand_in_a_file_without_a_value(self, tmp_path):
        """Each config.yaml of earlier versions lists ToolRL's ablations, which hardly any run used."""
        table = command_of("grpo").table()
        path = tmp_path / "config.yaml"
        path.write_text("rank: 4\ngranularity: null\nformat_rule:\n")
        assert read_config(table, str(path)) == {"rank": 4}
        path.write_text("granularity: coarse\n")
        with pytest.raises(InputError, match=r"config.yaml: option 'granularity' is part of a reward now.*-coarse"):
            read_config(table, str(path))

    @pytest.mark.parametrize("text", ["-1", "-1e-4", "-.5", "-inf"])
    def test_a_negative_number_is_no_option(self, text):
        assert self.read("--inv-tau", text)[SFTSettings]["weighting_args"] == {"inv_tau": float(text)}

    def test_truth_is_spelt_as_in_yaml(self):
        read = [self.read("--lora", text)[SFTOptions]["lora"] for text in ("on", "Yes", "off", "0")]
        assert read == [True, True, False, False]

    def test_a_flag_leaves_the_help_behind_it_alone(self, capsys):
        with pytest.raises(SystemExit):
            self.read("--lora", "-h")
        assert "--lora" in capsys.readouterr().out

    def test_none_is_a_name_for_other_libraries_except_beside_a_mapping(self):
        from trl import SFTConfig

        table = OptionTable("rolewise sft", [SFTConfig])
        assert table.read_flag("report_to", "none") == "none"
        assert table.read_flag("lr_scheduler_kwargs", "none") is None

    def test_arguments_of_a_part_are_a_mapping(self, tmp_path):
        path = tmp_path / "config.yaml"
        path.write_text("""weighting_args: '{"inv_tau": 0.7}'\n""")
        read = self.read("--config", str(path), "--weighting-arg", "inv_tau=0.2")
        assert read[SFTSettings]["weighting_args"] == {"inv_tau": 0.2}
        for text in ("weighting_args: 0.7", "weighting_args: fast", "weighting_args: [5]"):
            path.write_text(text)
            with pytest.raises(InputError, match=r"config.yaml: weighting_args is .*; expected "):
                self.read("--config", str(path))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("weighting_args: {inv_tauu: 3}", "weighting rft has no parameter 'inv_tauu'; did you mean inv_tau?"),
            ("weighting_args: {inv_tau: fast}", "inv_tau is 'fast'; expected a number"),
            ("weighting: alpha\nweighting_args: {alpha: 3}", "alpha"),
        ],
    )
    def test_mistakes_in_arguments_name_the_file(self, tmp_path, text, message):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(InputError, match="config.yaml: " + re.escape(message)):
            self.read("--config", str(path))

    def test_a_flag_replaces_a_wrong_argument_of_the_file(self, tmp_path):
        path = tmp_path / "config.yaml"
        path.write_text("weighting_args: {inv_tau: fast}")
        assert self.read("--config", str(path), "--inv-tau", "0.2")[SFTSettings] == {"weighting_args": {"inv_tau": 0.2}}
        path.write_text("weighting_args: {mine: fast}")
        assert self.read("--config", str(path), "--weighting", "mine")[SFTSettings] == {
            "weighting": "mine",
            "weighting_args": {"mine": "fast"},
        }

    def test_values_that_transformers_accepts_are_accepted(self, tmp_path):
        """Transformers declares `fsdp` as a text and accepts a truth value, and YAML reads a bare `no` as false."""
        path = tmp_path / "config.yaml"
        path.write_text("fsdp: true\neval_strategy: no\ntf32: true\n")
        table = command_of("sft").table()
        read = parse(table, build_parser(table, ""), ["--config", str(path), "--tf32", "none", "--bf16", "none"])
        assert read == {"fsdp": True, "eval_strategy": "no", "tf32": None, "bf16": None}
        assert parse(table, build_parser(table, ""), ["--tf32", "none", "--tf32", "true"]) == {"tf32": True}
        with pytest.raises(InputError, match="--lora is 'none'; expected true or false"):
            self.read("--lora", "none")
        with pytest.raises(InputError, match="eval_strategy True is not known; choose one of no, steps, epoch"):
            table.read("eval_strategy", True)

    def test_flags_win_over_the_file_also_in_a_part(self, tmp_path):
        path = tmp_path / "config.yaml"
        path.write_text("rank: 4\nweighting_args: {inv_tau: 0.7}\n")
        read = self.read("--config", str(path), "--inv_tau=0.2", "--rank", "8")
        assert (read[SFTOptions]["rank"], read[SFTSettings]["weighting_args"]) == (8, {"inv_tau": 0.2})

    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            (int, "3", 3),
            (float, "1e-4", 1e-4),
            (float | None, "none", None),
            (bool, "yes", True),
            (str | None, "null", None),
            (Literal["a", "b"], "b", "b"),
            (float | Literal["keep"] | None, "keep", "keep"),
            (float | Literal["keep"] | None, "0.5", 0.5),
            (dict | str | None, '{"a": 1}', {"a": 1}),
        ],
    )
    def test_texts_become_what_the_annotation_says(self, kind, text, value):
        assert read_text(kind, text) == value

    @pytest.mark.parametrize(
        ("kind", "given", "value"),
        [
            (tuple[float, ...] | None, [1, "1e-4"], (1.0, 1e-4)),
            (Annotated[tuple[int, ...], "Sizes."], [1, 2], (1, 2)),
            (tuple[str, ...], "a", ("a",)),
            (IntervalStrategy | str, False, "no"),  # as YAML reads `eval_strategy: no`
            (Any, ["a"], ["a"]),
        ],
    )
    def test_values_become_what_the_annotation_says(self, kind, given, value):
        assert read_value(kind, given) == value

    @pytest.mark.parametrize(
        ("kind", "value", "message"),
        [
            (tuple[int, ...], [1, "a"], r"is \[1, 'a'\]; expected a whole number, or a list of them"),
            (tuple[str, ...], {"a": 1}, "is {'a': 1}; expected a list"),
            (tuple[str, ...], ["a", 1], r"is \['a', 1\]; expected text, or a list of them"),
            (IntervalStrategy | str, [1], r"\[1\] is not known; choose one of no, steps, epoch"),
            (float, 10**400, "is 1000000.*; expected a number"),
            (dict | str, [5], r"is \[5\]; expected a mapping or text"),
            (int, "many", "is 'many'; expected a whole number"),
            (int, True, "is True; expected a whole number"),
            (int, 1.5, "is 1.5; expected a whole number"),
            (bool, 1, "is 1; expected true or false"),
            (str, ["a"], r"is \['a'\]; expected text"),
            (str, None, "has no value"),
            (Literal["a", "b"], "c", "'c' is not known; choose one of a, b"),
            (float | Literal["keep"], "x", "is 'x'; expected a number or one of keep"),
        ],
    )
    def test_other_values_are_refused(self, kind, value, message):
        with pytest.raises(InputError, match=message):
            read_value(kind, value)


class TestComponents:
    @pytest.mark.usefixtures("registries")
    def test_parameters_are_the_factorys_own(self):
        parts = WEIGHTINGS

        def make(scale: Annotated[float, "How far."], name="x", *rest, **more):
            return scale, name

        parts.register("mine", make)
        scale, name = parts.parameters("mine").values()
        assert (scale.help, scale.default, name.default) == ("How far.", dataclasses.MISSING, "x")
        assert parts.make("mine", {"scale": 2}) == (2, "x")
        assert parts.make("mine", '{"scale": 2}') == (2, "x")
        for arguments, message in (
            ({}, "weighting mine needs scale"),
            ({"scale": "far"}, "scale is 'far'; expected a number"),
            ({"scale": 1, "inv_tau": 1}, "inv_tau would change nothing with weighting mine, only with rft"),
            ({"scal": 1}, "weighting mine has no parameter 'scal'; did you mean scale?"),
            ("scale", "weighting_args is 'scale'; expected a mapping"),
            (5, "weighting_args is 5; expected a mapping"),
            ({1: 2}, "weighting_args names a parameter 1; a name is text"),
            ({"scale": float("nan")}, "scale is nan; expected another value"),
            ('{"scale": NaN}', "scale is nan; expected another value"),
            ({"scale": 1, "name": float("nan")}, "name is nan; expected another value"),
        ):
            with pytest.raises(InputError, match=re.escape(message)):
                parts.make("mine", arguments)


VALUES = (None, True, False, -1, 0, 1, 2.5, 5.0, "a", "5", "1e-4", "no", [], ["a"], [1], ["a", 1], {}, {"a": 0.5})


def types_of(value):
    """The names that JSON Schema has for the type of a value."""
    if isinstance(value, bool) or value is None:
        return {"null" if value is None else "boolean"}
    if isinstance(value, int | float):
        return {"number", "integer"} if value == int(value) else {"number"}
    return {{str: "string", list: "array", dict: "object"}[type(value)]}


def is_valid(schema, value):
    """The part of JSON Schema that config files need."""
    kinds = schema.get("type", [])
    return (
        ("anyOf" not in schema or any(is_valid(part, value) for part in schema["anyOf"]))
        and (not kinds or not types_of(value).isdisjoint([kinds] if isinstance(kinds, str) else kinds))
        and ("enum" not in schema or any(value == own and type(value) is type(own) for own in schema["enum"]))
        and ("minimum" not in schema or "number" not in types_of(value) or value >= schema["minimum"])
        and ("pattern" not in schema or not isinstance(value, str) or bool(re.search(schema["pattern"], value)))
        and (not isinstance(value, list) or all(is_valid(schema.get("items", {}), entry) for entry in value))
    )


class TestSchema:
    @pytest.mark.parametrize("command", [*TABLES, "experiment"])
    def test_has_every_option(self, command, capsys):
        assert main(["schema", command]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["additionalProperties"] is False
        if command in TABLES:
            assert set(TABLES[command].names()) <= found["properties"].keys()
        for name, entry in found["properties"].items():
            assert entry, name

    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
            (Literal["a", "b"], {"enum": ["a", "b"]}),
            (list[str], {"type": "array"}),
            (tuple[int, ...], {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}]}),
            (IntervalStrategy | str, {"enum": ["no", "steps", "epoch", False]}),
            (object, {}),
        ],
    )
    def test_of_an_annotation(self, annotation, expected):
        assert schema(annotation) == expected

    @pytest.mark.parametrize("command", [command for command in commands() if command != "experiment"])
    def test_accepts_what_the_reader_accepts(self, command):
        table, properties = command_of(command).table(), schema_of(command)["properties"]
        differing = []
        for name in table.names():
            if name == "weighting_args":
                continue  # as text it is JSON, which no schema tells from other text
            for value in VALUES:
                try:
                    table.read(name, value)
                    is_read = True
                except InputError:
                    is_read = False
                if is_read != is_valid(properties[name], value):
                    differing.append((name, value, is_read))
        assert differing == []

    def test_of_what_reads_no_file(self, capsys):
        assert main(["schema", "completion"]) == 2
        assert main(["schema", "nothing"]) == 2
        assert "reads no config file" in capsys.readouterr().err

    @pytest.mark.parametrize("command", commands())
    def test_what_the_docs_publish_is_what_the_command_prints(self, command):
        """`make schemas` writes them; the trainers' fields are those of the locked TRL and Transformers."""
        locked = (ROOT / "requirements" / "locked.txt").read_text(encoding="utf-8")
        if any(f"{name}=={version(name)}" not in locked for name in ("trl", "transformers", "accelerate")):
            pytest.skip("the locked TRL, Transformers and Accelerate are not installed, whose fields the schemas hold")
        published = ROOT / "docs" / "schemas" / f"{command}.json"
        assert json.loads(published.read_text(encoding="utf-8")) == schema_of(command)

    def test_every_example_names_its_commands(self):
        configs = [path for path in (ROOT / "examples").rglob("*.yaml") if path.read_text().startswith("# ")]
        named = 0
        for path in configs:
            first, second, *_ = path.read_text(encoding="utf-8").splitlines()
            found = re.search(r"rolewise (\w+) ", first)
            if found and path.name not in ("deepspeed_zero3.yaml", "fsdp2.yaml", "behaviours.yaml"):
                schema = path.parent / second.removeprefix("# yaml-language-server: $schema=")
                assert schema.resolve() == ROOT / "docs" / "schemas" / f"{found[1]}.json", path
                named += 1
        assert named > 20


def script_of(shell, capsys):
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


COMPLETED = {
    "rolewise tr": ["transfer"],
    "rolewise sft --inv": ["--inv-tau"],
    "rolewise sft --max-st": ["--max-steps"],
    "rolewise grpo --num-train": ["--num-train-epochs"],
    "rolewise warmup --help-": ["--help-all"],
    "rolewise label --conf": ["--config"],
    "rolewise experiment --pl": ["--plan"],
    "rolewise view --plu": ["--plugin"],
    "rolewise label --tuning ": ["full", "lora"],
    "rolewise label --method s": ["shad"],
    "rolewise sft --weighting sa": ["sample-mean"],
    "rolewise sft --eval-strategy e": ["epoch"],
    "rolewise schema wa": ["warmup"],
    "rolewise completion ": ["bash", "fish", "zsh"],
    "rolewise sft --data label --met": ["--metric-for-best-model"],
}
"""Line → what its last word is completed to."""


class TestCompletion:
    def test_of_bash(self, capsys):
        lines = [script_of("bash", capsys)]
        asked = [*COMPLETED, "rolewise label --method = s"]  # bash breaks --method=s so
        for line in asked:
            words = [f"'{word}'" for word in line.split(" ")]
            place = f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}"
            lines.append(f"{place}; _rolewise; echo ${{COMPREPLY[@]}}")
        told = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
        assert told.stderr == ""
        found = {line: sorted(words.split()) for line, words in zip(asked, told.stdout.splitlines(), strict=True)}
        assert found == COMPLETED | {"rolewise label --method = s": ["shad"]}

    @pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
    def test_of_fish(self, capsys, tmp_path):
        script = tmp_path / "rolewise.fish"
        script.write_text(script_of("fish", capsys), encoding="utf-8")
        asks = "".join(f"; complete -C '{line}'; echo =" for line in COMPLETED)
        fish = ["fish", "-N", "-c", f"source {script}{asks}"]
        told = subprocess.run(fish, capture_output=True, text=True, check=True)
        assert told.stderr == ""
        blocks = told.stdout.split("=\n")[:-1]
        found = [sorted(line.partition("\t")[0] for line in block.splitlines()) for block in blocks]
        assert dict(zip(COMPLETED, found, strict=True)) == COMPLETED

    @pytest.mark.parametrize("command", COMMANDS)
    def test_offers_every_flag_of_a_command(self, command):
        """As `--help-all` lists them, or `--help`."""
        offered = flags_of(command)
        assert "--help" in offered
        for flag in offered.keys() - {"--help", "--help-all"}:
            assert offered[flag][1], flag
        found = command_of(command)
        if found is not None:
            parser = build_parser(found.table(), "")
            known = {flag for flag in parser._option_string_actions if flag.startswith("--")}
            assert offered.keys() - {"--help-all"} == known

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_of_other_shells_names_every_command(self, shell, capsys):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(command in script for command in COMMANDS)
        assert "inv-tau" in script

    def test_an_unknown_shell_is_one_line(self, capsys):
        assert main(["completion", "tcsh"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_command_that_is_mistyped_names_the_nearest(capsys):
    assert main(["lable"]) == 2
    assert capsys.readouterr().err == "rolewise: 'lable' is not a command; did you mean label?\n"


def test_config_files_that_commands_leave_are_read_again(tmp_path):
    """Flat parameters and mappings alike; what is written is YAML of plain values."""
    table = TABLES["label"]
    values = {"model": "m", "data": "d", "output": "o", "method": "shad", "min_pairs": 8, "cross_fit": False}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    read = table.distributed(parse(table, build_parser(table, ""), ["--config", str(path)]))[table.owners[0]]
    assert read["method_args"] == {"min_pairs": 8, "cross_fit": False}


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("arguments", [{"share": 0.5}, {"share": 0.5, "limit": 7, "cap": None, "kinds": ["a"]}])
def test_a_plugin_labellers_settings_are_read_again(arguments, tmp_path):
    """Also one that is called like an option of the command, one without a value and one of no type."""

    def labeller(samples, context, *, share: float, limit: int = 3, cap: float = None, kinds=None):  # noqa: RUF013
        raise AssertionError

    register_labeller("mine", labeller)
    options = LabelOptions(model="m", data="d", output="o", method="mine", method_args=arguments)
    written = settings_of(options)
    assert written["limit"] is None
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(written))
    assert written.keys() <= schema_of("label")["properties"].keys()
    again = command_of("label").read(["--config", str(path)])
    assert again.limit is None
    assert settings_of(again) == written
