"""Weights for other trainers: what is in the files, and what is refused because a format can't say it."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import options_of
from datasets import load_dataset
from labelled_sets import make_labelled, without_losses
from tiny import reference_weights
from workbench import tiny_tokenizer

from rolewise import Conversation, ExportOptions, InputError, export
from rolewise.cli.main import main
from rolewise.generator import generate
from rolewise.weighting import WEIGHTINGS

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}


@pytest.fixture(scope="module")
def conversations():
    return generate(5, seed=2)


@pytest.fixture(scope="module")
def tokenizer(conversations):
    return tiny_tokenizer([str(m["content"]) for c in conversations for m in c.messages])


@pytest.fixture(scope="module")
def labelled(conversations, tokenizer, tmp_path_factory):
    return make_labelled(tmp_path_factory.mktemp("set") / "labelled", tokenizer, conversations)


def exported(labelled, output: Path, **options: object):
    return export(options_of(ExportOptions, data=str(labelled.path), output=str(output), **options))


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def parquet(path: Path, cache: Path) -> list[dict]:
    return list(load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(cache)))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_equal_the_equations_at_the_stored_losses(labelled, tmp_path, weighting):
    own = {"rft": {"inv_tau": 1.5}, "alpha": {"alpha": 0.2}}.get(weighting, {})
    exported(labelled, tmp_path / "w.parquet", weighting=weighting, **own)
    rows = parquet(tmp_path / "w.parquet", tmp_path)
    samples = list(labelled.samples())
    length = max(len(sample.mask_T) for sample in samples)

    def batch(name: str, fill: float) -> np.ndarray:
        return np.array([[*getattr(s, name), *[fill] * (length - len(s.mask_T))] for s in samples])

    mask = batch("mask_T", 0).astype(bool)
    losses, roles = np.nan_to_num(batch("base_loss_T", 0)), batch("roles_T", 0)
    scores = batch("base_loss_T", np.nan) - batch("tuned_loss_T", np.nan)
    expected = reference_weights(weighting, losses, roles, mask, scores_BT=scores, inv_tau=1.5, alpha=0.2) * mask.sum()
    for row, wanted in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row["weights"], wanted[: len(row["weights"])], rtol=1e-5)
    total = sum(sum(row["weights"]) for row in rows)
    if weighting != "dft":  # whose weights are probabilities
        assert total == pytest.approx(mask.sum(), rel=1e-5)


def test_parquet_holds_every_column_in_order(labelled, tmp_path):
    exported(labelled, tmp_path / "w.parquet")
    rows = parquet(tmp_path / "w.parquet", tmp_path)
    assert len(rows) == len(labelled.rows)
    for row, before in zip(rows, labelled.rows, strict=True):
        for name in ("input_ids", "labels", "token_roles", "char_start", "char_end", "text", "source"):
            assert row[name] == before[name]
        assert len(row["weights"]) == len(row["input_ids"])


def test_trl_switches_off_what_weighs_nothing(labelled, tmp_path):
    result = exported(labelled, tmp_path / "w.parquet", to="trl", weighting="alpha", alpha=0)
    assert any("drops the column `weights`" in note for note in result.notes)
    for row, sample in zip(parquet(tmp_path / "w.parquet", tmp_path), labelled.samples(), strict=True):
        assert set(row) == {"input_ids", "labels", "weights"}
        reasoning = [label != -100 for label in row["labels"]]
        assert reasoning == (sample.roles_T == 2).tolist()


def test_axolotl_gets_its_three_columns(labelled, tmp_path):
    exported(labelled, tmp_path / "a.jsonl", to="axolotl", weighting="alpha", alpha=1)
    for row, before in zip(json_lines(tmp_path / "a.jsonl"), labelled.rows, strict=True):
        assert set(row) == {"input_ids", "attention_mask", "labels"}
        assert row["input_ids"] == before["input_ids"]
        assert row["attention_mask"] == [1] * len(row["input_ids"])
        pairs = zip(before["input_ids"], before["token_roles"], strict=True)
        assert row["labels"] == [token if role in (3, 4, 5) else -100 for token, role in pairs]


def test_ms_swift_gets_messages_with_calls_and_switches(tokenizer, tmp_path):
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, CALL]}
    messages = [
        {"role": "user", "content": "q"},
        turn,
        {"role": "tool", "content": "r"},
        {"role": "assistant", "content": "word " * 40},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    conversation = Conversation(messages, tools, source="c:1")
    whole = make_labelled(tmp_path / "whole", tokenizer, [conversation])
    length = len(whole.rows[0]["input_ids"])
    cut = make_labelled(tmp_path / "cut", tokenizer, [conversation], max_length=length - 20)
    for name, labelled, switch in (("w", whole, {}), ("c", cut, {"loss": False})):
        exported(labelled, tmp_path / f"{name}.jsonl", to="ms-swift", weighting="none")
        (row,) = json_lines(tmp_path / f"{name}.jsonl")
        call = {"role": "tool_call", "content": json.dumps(CALL["function"])}
        last = {**messages[3], **switch}
        said = {"role": "assistant", "content": "Let me see."}
        assert row["messages"] == [messages[0], said, call, call, messages[2], last]
        assert json.loads(row["tools"]) == tools


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"to": "axolotl"}, "Axolotl's data switches tokens on or off; weights of rft are neither"),
            ({"to": "axolotl", "weighting": "alpha", "alpha": 0.3}, "weights of alpha are neither"),
            ({"to": "axolotl", "weighting": "sample-mean"}, "weights of sample-mean are neither"),
            ({"to": "ms-swift", "weighting": "alpha", "alpha": 0}, "ms-swift's data switches whole turns"),
            ({"to": "csv"}, "to 'csv' is not known; choose one of parquet, trl, axolotl, ms-swift"),
            ({"alpha": 2, "weighting": "alpha"}, "alpha is 2"),
        ],
    )
    def test_what_a_format_can_not_say(self, labelled, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            exported(labelled, tmp_path / "out", **options)
        assert list(tmp_path.iterdir()) == []

    def test_rft_without_losses(self, tokenizer, conversations, tmp_path):
        plain = without_losses(tmp_path / "regex", tokenizer, conversations)
        with pytest.raises(InputError, match="rft weights by base losses, but not every token has one"):
            exported(plain, tmp_path / "out")
        assert not list(tmp_path.glob("*out*"))
        exported(plain, tmp_path / "out", weighting="alpha")

    def test_messages_of_a_set_that_holds_none(self, labelled, tmp_path):
        old = tmp_path / "old"
        labelled.rows.remove_columns("conversation").save_to_disk(old)
        (old / "rolewise.json").write_bytes((labelled.path / "rolewise.json").read_bytes())
        options = ExportOptions(data=str(old), output=str(tmp_path / "out"), to="ms-swift", weighting="none")
        with pytest.raises(InputError, match="has no conversations"):
            export(options)

    def test_an_output_that_is_there(self, labelled, tmp_path):
        (tmp_path / "out").write_text("mine", encoding="utf-8")
        with pytest.raises(InputError, match="out: already exists"):
            exported(labelled, tmp_path / "out")
        assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_the_command_says_what_it_wrote(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    output = tmp_path / "w.parquet"
    assert main(["export", "--data", str(labelled.path), "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert f"5 rows: {output}" in captured.out
    assert "use the stored base losses" in captured.err
