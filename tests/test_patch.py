"""Corrections made by hand: applied, kept through other thresholds, and refused where they do not fit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from labelled_sets import THRESHOLD, make_labelled, without_losses
from workbench import tiny_tokenizer

from rolewise import InputError, relabel
from rolewise.cli.main import main
from rolewise.core.role import Role
from rolewise.data.labelled import labelled_fingerprint, load_labelled
from rolewise.generator import generate


@pytest.fixture(scope="module")
def conversations():
    return generate(3, seed=1)


@pytest.fixture(scope="module")
def tokenizer(conversations):
    return tiny_tokenizer([str(m["content"]) for c in conversations for m in c.messages])


@pytest.fixture(scope="module")
def labelled(conversations, tokenizer, tmp_path_factory):
    return make_labelled(tmp_path_factory.mktemp("set") / "labelled", tokenizer, conversations)


def loss_run(labelled, row: int = 1) -> tuple[int, int]:
    """Three neighbouring loss tokens of a row."""
    start = int(np.flatnonzero(np.array(labelled.rows[row]["labels"]) != -100)[0])
    return start, start + 3


def patch_file(path: Path, labelled, edits: object, **changes: object) -> Path:
    content = {"rolewise_patch": 1, "data": labelled_fingerprint(labelled.rows), "edits": edits} | changes
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def edit(span: tuple[int, int], role: str, row: int = 1) -> dict[str, object]:
    return {"row": row, "start": span[0], "end": span[1], "role": role}


def roles_of(path: Path) -> list[list[int]]:
    return load_labelled(path).rows["token_roles"][:]


def test_edits_change_their_tokens_and_nothing_else(labelled, tmp_path):
    start, end = loss_run(labelled)
    patch = patch_file(tmp_path / "p.json", labelled, [edit((start, end), "plain"), edit((start, end - 1), "format")])
    result = relabel(labelled.path, tmp_path / "out", patches=[patch])
    expected = labelled.rows["token_roles"][:]
    expected[1][start:end] = [int(Role.FORMAT), int(Role.FORMAT), int(Role.PLAIN)]
    assert roles_of(result.path) == expected
    assert result.info.threshold == THRESHOLD
    assert result.info.counts["plain"] == sum(row.count(int(Role.PLAIN)) for row in expected)
    (record,) = result.info.patches
    assert record["file"] == "p.json"
    assert record["sha256"] == hashlib.sha256(patch.read_bytes()).hexdigest()
    assert len(record["edits"]) == 2


def test_corrections_outlive_another_threshold_and_later_ones_win(labelled, tmp_path):
    start, end = loss_run(labelled)
    first = patch_file(tmp_path / "first.json", labelled, [edit((start, end), "plain")])
    corrected = relabel(labelled.path, tmp_path / "corrected", patches=[first])
    again = relabel(corrected.path, tmp_path / "again", threshold=0.5)
    without = relabel(labelled.path, tmp_path / "without", threshold=0.5)
    expected = roles_of(without.path)
    assert expected != roles_of(labelled.path)
    expected[1][start:end] = [int(Role.PLAIN)] * 3
    assert roles_of(again.path) == expected
    second = patch_file(tmp_path / "second.json", labelled, [edit((start, start + 1), "reasoning")])
    both = relabel(again.path, tmp_path / "both", patches=[second])
    assert roles_of(both.path)[1][start:end] == [Role.REASONING, Role.PLAIN, Role.PLAIN]
    assert [record["file"] for record in both.info.patches] == ["first.json", "second.json"]


def test_a_set_without_losses_can_be_corrected(tokenizer, conversations, tmp_path):
    plain = without_losses(tmp_path / "regex", tokenizer, conversations)
    span = loss_run(plain)
    patch = patch_file(tmp_path / "p.json", plain, [edit(span, "template")])
    result = relabel(plain.path, tmp_path / "out", patches=[patch])
    expected = plain.rows["token_roles"][:]
    expected[1][slice(*span)] = [int(Role.TEMPLATE)] * 3
    assert roles_of(result.path) == expected
    with pytest.raises(InputError, match="measures no losses"):
        relabel(plain.path, tmp_path / "no", threshold=0.1, patches=[patch])
    again = yaml.safe_load((result.path / "config.yaml").read_text(encoding="utf-8"))
    assert "threshold" not in again


class TestRefused:
    @pytest.mark.parametrize(
        ("edits", "message"),
        [
            ([{"row": 0, "start": 0}], "edit 1 must have exactly row, start, end and role"),
            (
                [{"row": 0, "start": 0, "end": True, "role": "plain"}],
                "edit 1: row, start and end must be whole numbers",
            ),
            ([edit((0, 1), "clever")], "edit 1: role 'clever' is not known; choose one of plain, "),
            ([edit((0, 1), "context")], "edit 1: role 'context' is not known"),
            ([edit((0, 1), "plain", row=3)], "edit 1: row 3 does not exist; the data set has rows 0 to 2"),
            ([edit((-1, 1), "plain")], "edit 1: tokens -1 to 1 are not in row 1"),
            ([edit((5, 5), "plain")], "edit 1: tokens 5 to 5 are not in row 1"),
            ([edit((0, 10**6), "plain")], "edit 1: tokens 0 to 1000000 are not in row 1"),
            ([edit((0, 1), "plain")], "edit 1: token 0 of row 1 carries no loss"),
            ("all", "`edits` must be a list"),
        ],
    )
    def test_edits(self, labelled, tmp_path, edits, message):
        patch = patch_file(tmp_path / "p.json", labelled, edits)
        with pytest.raises(InputError, match=r"p\.json") as refusal:
            relabel(labelled.path, tmp_path / "out", patches=[patch])
        assert message in str(refusal.value)
        assert not list(tmp_path.glob("out*"))

    def test_files(self, labelled, tmp_path):
        def refused(patch: Path) -> str:
            with pytest.raises(InputError) as refusal:
                relabel(labelled.path, tmp_path / "out", patches=[patch])
            assert "\n" not in str(refusal.value)
            return str(refusal.value)

        path = tmp_path / "p.json"
        assert "made for another data set" in refused(patch_file(path, labelled, [], data="0" * 64))
        assert "not a patch of version 1" in refused(patch_file(path, labelled, [], rolewise_patch=2))
        assert "cannot read the patch" in refused(tmp_path / "missing.json")
        path.write_text("{", encoding="utf-8")
        assert "not a JSON file" in refused(path)
        path.write_text("[" * 100_000, encoding="utf-8")
        assert "not a JSON file" in refused(path)


class TestCommand:
    def test_several_patches_and_the_configuration_that_it_leaves(self, labelled, tmp_path):
        start, end = loss_run(labelled)
        one = patch_file(tmp_path / "one.json", labelled, [edit((start, end), "plain")])
        two = patch_file(tmp_path / "two.json", labelled, [edit((start, start + 1), "template")])
        command = ["relabel", "--data", str(labelled.path), "--output"]
        assert main([*command, str(tmp_path / "out"), "--patch", str(one), "--patch", str(two)]) == 0
        roles = roles_of(tmp_path / "out")
        assert roles[1][start:end] == [Role.TEMPLATE, Role.PLAIN, Role.PLAIN]
        config = str(tmp_path / "out" / "config.yaml")
        assert main(["relabel", "--config", config, "--output", str(tmp_path / "again")]) == 0
        assert roles_of(tmp_path / "again") == roles
        # A flag replaces the file's list instead of adding to it.
        assert main(["relabel", "--config", config, "--output", str(tmp_path / "first"), f"--patch={one}"]) == 0
        assert roles_of(tmp_path / "first")[1][start:end] == [Role.PLAIN] * 3

    def test_a_list_of_something_else_in_the_file_is_refused(self, tmp_path, capsys):
        (tmp_path / "c.yaml").write_text("data: d\noutput: o\npatch: [1, 2]\n", encoding="utf-8")
        assert main(["relabel", "--config", str(tmp_path / "c.yaml")]) == 2
        assert "patch is [1, 2]; expected text, or a list of them" in capsys.readouterr().err

    def test_a_quantile_that_is_no_number_is_refused(self, labelled, tmp_path, capsys):
        command = [
            "relabel",
            "--data",
            str(labelled.path),
            "--output",
            str(tmp_path / "o"),
            "--format-quantile",
            "half",
        ]
        assert main(command) == 2
        assert "--format-quantile is 'half'; expected a number or one of keep" in capsys.readouterr().err
