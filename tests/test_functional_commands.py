"""Functional tokens from the command line: labels by behaviour, tuning with any weighting, the adapter used again."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer
from workbench import Workbench, tiny_model

from rolewise.cli import label as label_command
from rolewise.cli import sft as sft_command
from rolewise.core.behaviour import RFTT
from rolewise.core.errors import InputError
from rolewise.data.labelled import load_labelled
from rolewise.jobs.engines import open_model, open_tokenizer
from rolewise.options.answers import EvalOptions
from rolewise.training.functional_tokens import add_functional_tokens, functional_token_ids

STEPS = "<next_step>Add {0} and {0}.</next_step>\n<verify>It is even.</verify>\n<output>{1}</output>"


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("steps") / "conversations.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} + {n}?"},
                {"role": "assistant", "content": STEPS.format(n, 2 * n)},
            ]
        }
        for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tune(bench: Workbench, data: Path, output: Path, *more: str) -> None:
    arguments = ["--model", bench.model, "--data", data, "--output", output, "--rank", 4, "--max_steps", 2]
    arguments += ["--per_device_train_batch_size", 2, "--generations", 1, "--generation-tokens", 4, *more]
    sft_command.run([str(argument) for argument in arguments])


def options_for(model: Path) -> EvalOptions:
    return EvalOptions(model=str(model), suite="gsm8k", output="unused")


def test_labels_by_behaviour_train_with_any_weighting(bench, conversations, tmp_path, capsys):
    labelled_at, run = tmp_path / "labelled", tmp_path / "run"
    arguments = ["--model", bench.model, "--data", conversations, "--output", labelled_at, "--method", "functional"]
    label_command.run([str(argument) for argument in arguments])
    assert "16 functional tokens were added to the tokenizer" in " ".join(capsys.readouterr().err.split())
    labelled = load_labelled(labelled_at)
    assert labelled.info.settings["behaviours"] == RFTT.as_record()
    counts = labelled.info.counts
    assert counts["format"] == 6 * (6 + 2 + 1)  # functional tokens, line breaks, the end of the turn
    assert counts["reasoning"] > 6 * 6
    assert counts["boilerplate"] >= 6
    assert counts["plain"] == 0

    with pytest.raises(InputError, match="labelled with functional tokens that the model lacks; give the same"):
        tune(bench, labelled_at, run)
    tune(bench, labelled_at, run, "--behaviours", "rftt", "--weighting", "rft", "--merge")
    [line, *_] = [json.loads(text) for text in (run / "log.jsonl").read_text().splitlines()]
    assert line["share_reasoning"] > 0
    saved = load_file(run / "adapter_model.safetensors")
    assert {len(weights) for name, weights in saved.items() if "lora" not in name} == {16}  # no whole matrix
    ids = functional_token_ids(AutoTokenizer.from_pretrained(run))
    adapter, merged = open_model(options_for(run)), open_model(options_for(run / "merged"))
    assert functional_token_ids(open_tokenizer(options_for(run))) == ids
    for layer, other in [
        (adapter.get_input_embeddings(), merged.get_input_embeddings()),
        (adapter.get_output_embeddings(), merged.get_output_embeddings()),
    ]:
        assert (layer.weight == other.weight).all()

    again = tmp_path / "again"
    tune(Workbench(run / "merged", conversations), conversations, again, "--behaviours", "rftt")
    assert "16 of 16 functional tokens already exist in the model" in " ".join(capsys.readouterr().err.split())
    assert functional_token_ids(AutoTokenizer.from_pretrained(again)) == ids


def test_conversations_get_their_roles_without_a_labelled_set(bench, conversations, tmp_path):
    file = tmp_path / "house.yaml"
    few = {"first": ["next_step"], "behaviours": [b for b in RFTT.as_record()["behaviours"] if b["name"] == "output"]}
    step = {"name": "next_step", "description": "one step", "follows": ["next_step", "output"]}
    file.write_text(yaml.safe_dump({**few, "behaviours": [step, *few["behaviours"]]}), encoding="utf-8")
    tune(bench, conversations, tmp_path / "run", "--behaviours", str(file), "--weighting", "rft", "--no-lora")
    [line, *_] = [json.loads(text) for text in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert line["share_reasoning"] > 0
    assert line["share_boilerplate"] > 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert len(tokenizer) == len(bench.tokenizer()) + 4
    model = open_model(options_for(tmp_path / "run"))
    assert len(model.get_output_embeddings().weight) == len(tokenizer)


def test_rows_of_a_padded_vocabulary_start_from_their_words(bench, conversations, tmp_path):
    tokenizer = bench.tokenizer()
    padded = tmp_path / "padded"
    base = tiny_model(len(tokenizer) + 40)
    base.save_pretrained(padded)
    tokenizer.save_pretrained(padded)
    # Too small a step to move anything.
    more = ["--behaviours", "rftt", "--weighting", "none", "--no-lora", "--learning_rate", "1e-30"]
    tune(Workbench(padded, conversations), conversations, tmp_path / "run", *more)
    tuned = open_model(options_for(tmp_path / "run"))
    expected = tiny_model(len(tokenizer) + 40)
    add_functional_tokens(expected, tokenizer)
    for name, weights in expected.state_dict().items():
        assert torch.equal(tuned.state_dict()[name], weights), name


def test_other_behaviours_are_another_run(bench, conversations, tmp_path):
    tune(bench, conversations, tmp_path / "run", "--behaviours", "rftt", "--weighting", "none")
    with pytest.raises(InputError, match="settings"):
        tune(bench, conversations, tmp_path / "run", "--weighting", "none")


def test_what_does_not_go_together_is_refused(bench, conversations, tmp_path):
    with pytest.raises(InputError, match="behaviours would change nothing with method regex"):
        label_command.run(["--model", "m", "--data", "d", "--output", "o", "--method", "regex", "--behaviours", "rftt"])
    with pytest.raises(InputError, match=r"none\.yaml: cannot read the behaviours"):
        tune(bench, conversations, tmp_path / "run", "--behaviours", str(tmp_path / "none.yaml"))
