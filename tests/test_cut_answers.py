"""Answers that max_length cuts are counted and said, or left out, by every reading of conversations."""

import json
from pathlib import Path

import pytest
from workbench import Workbench

from rolewise.core.errors import InputError
from rolewise.data.prepare import prepare
from rolewise.data.render import Renderer
from rolewise.jobs.sft_data import load_training_data
from rolewise.options.training import SFTOptions
from rolewise.training.sft import WeightedSFTConfig

pytest_plugins = ("workbench",)


@pytest.fixture
def data(tmp_path):
    def write(*pairs):
        path = tmp_path / "data.jsonl"
        lines = [
            json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n"
            for q, a in pairs
        ]
        path.write_text("".join(lines))
        return str(path)

    return write


LONG, SHORT, LONG_PROMPT = ("Hi", "red green " * 60), ("Hi", "Yes."), ("word " * 300, "Blue.")


def test_cut_answers_are_counted_and_said(bench: Workbench, data):
    renderer = Renderer(bench.tokenizer(), max_length=40)
    found = prepare(data(LONG, SHORT), renderer)
    whole = prepare(data(LONG, SHORT), Renderer(bench.tokenizer()))
    lost = whole.loss_tokens - found.loss_tokens
    assert [sample.lost for sample in found.samples] == [lost, 0]
    [note] = [note for note in found.notes if "max_length" in note]
    assert f"max_length 40 cuts the answers of 1 of 2 samples: {lost:,} tokens" in note
    assert "--skip-cut" in note
    assert not [note for note in whole.notes if "max_length" in note]


def test_cut_answers_are_left_out_where_asked(bench: Workbench, data):
    renderer = Renderer(bench.tokenizer(), max_length=40)
    found = prepare(data(LONG, SHORT, LONG_PROMPT), renderer, skip_cut=True)
    assert len(found.samples) == found.conversations == 1
    assert [entry.source.rpartition(":")[2] for entry in found.rejected] == ["1", "3"]
    assert not [note for note in found.notes if "max_length" in note]


def test_notes_on_data_for_evaluation_are_told_too(bench: Workbench, data, tmp_path):
    short = tmp_path / "short.jsonl"
    Path(data(SHORT, SHORT)).rename(short)
    options = SFTOptions(model=str(bench.model), data=str(short), eval_data=data(LONG, SHORT), output="")
    training = WeightedSFTConfig(output_dir="", weighting="none", max_length=40, use_cpu=True, report_to="none")
    assert "max_length 40 cuts the answers of 1 of 2 samples" in " ".join(load_training_data(options, training).notes)


def test_a_prompt_that_leaves_nothing_of_the_answer_is_refused_by_name(bench: Workbench, data):
    with pytest.raises(InputError, match=r"data.jsonl:2: no assistant token left after cutting to max_length=40"):
        prepare(data(SHORT, LONG_PROMPT), Renderer(bench.tokenizer(), max_length=40))
