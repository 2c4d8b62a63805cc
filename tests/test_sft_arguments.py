"""Every argument of TRL's trainer on labelled data: it works, or is refused by its name; none is passed over."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from tiny import labelled_dataset, tiny_model
from transformers import TrainingArguments
from trl import SFTConfig, SFTTrainer

from rolewise.core.errors import InputError
from rolewise.training.grpo import WeightedGRPOTrainer
from rolewise.training.labelled_rows import cut_rows, token_counts
from rolewise.training.reinforce import ReinforceTrainer
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer
from rolewise.weighting import make_weighting

WORKS = {
    *("model_init_kwargs", "trust_remote_code", "eos_token", "pad_token"),  # of model and tokenizer
    *("max_length", "truncation_mode", "shuffle_dataset", "packing", "padding_free", "eval_packing"),  # see below
    *("pad_to_multiple_of", "router_aux_loss_coef", "activation_offloading"),
}
REFUSED = {
    "chat_template_path": "someone/model",
    "dataset_text_field": "body",
    "dataset_kwargs": {"add_special_tokens": False},
    "dataset_num_proc": 2,
    "completion_only_loss": False,
    "assistant_only_loss": True,
    "packing_strategy": "wrapped",
    "loss_type": "dft",
}
WORKING_ARGUMENTS = {
    *("model", "args", "train_dataset", "eval_dataset", "processing_class", "peft_config", "quantization_config"),
    *("compute_metrics", "callbacks", "optimizers", "optimizer_cls_and_kwargs", "preprocess_logits_for_metrics"),
}
REFUSED_ARGUMENTS = {"formatting_func": str, "compute_loss_func": print}
IN_SOME_CASES = {"data_collator"}  # where it drops roles or rows are packed
TOKEN_COLUMNS = ("input_ids", "labels", "token_roles", "base_loss", "tuned_loss")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def make(chatml_tokenizer, tmp_path):
    def make(rows, evaluation=None, arguments=None, **options):
        config = WeightedSFTConfig(
            output_dir=str(tmp_path),
            **{"weighting": "rft", "max_steps": 1, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
            | {"save_strategy": "no", "gradient_checkpointing": False}
            | options,
        )
        model = tiny_model(vocab_size=len(chatml_tokenizer))
        return WeightedSFTTrainer(
            model, config, train_dataset=rows, eval_dataset=evaluation, processing_class=chatml_tokenizer,
            **(arguments or {}),
        )  # fmt: skip

    return make


@pytest.fixture
def rows(chatml_tokenizer):
    return labelled_dataset((23, 9, 31, 12, 5), vocab_size=len(chatml_tokenizer))


def raw(count=2):
    return Dataset.from_list([{"messages": [{"role": "user", "content": "Hi"}]}] * count)


def test_every_field_and_argument_is_in_the_table():
    of_everyone = {field.name for field in dataclasses.fields(TrainingArguments)}
    fields = {field.name for field in dataclasses.fields(SFTConfig)} - of_everyone
    assert fields == WORKS | set(REFUSED)
    arguments = set(inspect.signature(SFTTrainer.__init__).parameters) - {"self"}
    assert arguments == WORKING_ARGUMENTS | set(REFUSED_ARGUMENTS) | IN_SOME_CASES


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_nothing_would_read_are_refused_by_name(name, make, rows):
    more = {"packing": True} if name == "packing_strategy" else {}
    with pytest.raises(InputError, match=name):
        make(rows, **{name: REFUSED[name]}, **more)


@pytest.mark.parametrize("name", REFUSED_ARGUMENTS)
def test_arguments_that_nothing_would_call_are_refused_by_name(name, make, rows):
    with pytest.raises(InputError, match=name):
        make(rows, arguments={name: REFUSED_ARGUMENTS[name]})


def test_a_collator_beside_packed_rows_is_refused(make, rows):
    with pytest.raises(InputError, match="data_collator"):
        make(rows, packing=True, arguments={"data_collator": list})


@pytest.mark.parametrize(
    "mode",
    ["keep_start", pytest.param("keep_end", marks=pytest.mark.deprecated_on_purpose)],  # TRL means to drop it
)
def test_samples_are_cut_with_every_column_of_their_tokens(mode, make, rows):
    more = rows.add_column("char_start", [list(range(len(ids))) for ids in rows["input_ids"]])
    more = more.add_column("source", [f"file:{n}" for n in range(5)])
    kept = slice(15) if mode == "keep_start" else slice(-15, None)
    with pytest.warns(UserWarning, match=r"train data: max_length=15 cuts 2 of 5 samples, and \d+ tokens with loss"):
        trainer = make(more, more, max_length=15, truncation_mode=mode)
    for cut in (trainer.train_dataset, trainer.eval_dataset):
        for name in (*TOKEN_COLUMNS, "char_start"):
            expected = [row if len(row) <= 15 else row[kept] for row in more[name]]
            assert list(map(len, cut[name])) == [15, 9, 15, 12, 5]
            np.testing.assert_array_equal(np.concatenate(cut[name]), np.concatenate(expected))
        assert cut["source"][:] == more["source"][:]
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["token_roles"].shape == batch["input_ids"].shape == (5, 15)
    assert bool(((batch["token_roles"] > 0) == (batch["labels"] != -100)).all())
    trainer.train()


def test_a_cut_sample_trains_like_one_that_was_short_from_the_start(make, rows):
    short = Dataset.from_list([{name: row[name][:12] for name in TOKEN_COLUMNS} for row in rows])
    trained = []
    for data, options in ((rows, {"max_length": 12}), (short, {}), (rows, {"max_length": 12, "packing": True})):
        trainer = make(data, optim="sgd", learning_rate=1.0, per_device_train_batch_size=8, **options)
        if options.get("packing"):
            assert max(token_counts(trainer.train_dataset)) == 12
            continue
        trainer.train()
        trained.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(trained[0], trained[1])


def test_a_sample_that_loses_all_its_loss_tokens_is_named(make, rows):
    named = rows.add_column("source", [f"file:{n}" for n in range(5)])
    with pytest.raises(InputError, match=r"^file:2: no token with loss is left after cutting to max_length=6"):
        cut_rows(named.select([1, 3, 4, 2]), 6)
    with pytest.raises(InputError, match=r"sample 1 of the labelled data: no token with loss.*max_length=3"):
        make(rows, max_length=3)


def test_a_cut_leaves_lists_alone_that_only_happen_to_be_as_long(rows):
    messages = [{"role": "user", "content": str(n)} for n in range(9)]
    more = rows.add_column("messages", [messages] * 5).add_column("sizes", [[1] * 9] * 5).add_column("no", [None] * 5)
    more = more.add_column("pieces", [[[n] for n in ids] for ids in rows["input_ids"]])
    more = more.add_column("words", [list(map(str, ids)) for ids in rows["input_ids"]])
    cut, _ = cut_rows(more.select([1, 0]), 8)
    assert cut["messages"][:] == [messages] * 2
    assert cut["sizes"][:] == [[1] * 9] * 2
    assert list(map(len, cut["pieces"])) == [9, 23]
    assert cut["words"][:] == [list(map(str, ids)) for ids in cut["input_ids"]]
    for name in TOKEN_COLUMNS:
        assert list(map(len, cut[name])) == [8, 8]


@pytest.mark.parametrize("weighting", ["none", "rft"])
def test_a_stream_of_labelled_rows_is_refused_by_name(weighting, make, rows):
    stream = IterableDataset.from_generator(lambda: iter(rows.to_list()))
    assert stream.column_names is None
    with pytest.raises(InputError, match="the train data must be a labelled Dataset, not streamed"):
        make(stream, weighting=weighting, max_steps=1)
    with pytest.raises(InputError, match="evaluation data is labelled"):
        make(rows.remove_columns("token_roles"), stream, weighting="none")


def test_short_samples_stay_as_they_are_and_none_cuts_nothing(make, rows):
    assert cut_rows(rows, 31)[0] is rows
    assert cut_rows(rows, None) == (rows, [])
    assert make(rows, max_length=None).train_dataset is rows


def test_labelled_samples_are_shuffled_by_the_seed(make, rows):
    shuffled = make(rows, rows, shuffle_dataset=True, seed=3)
    assert shuffled.train_dataset["input_ids"][:] == rows.shuffle(seed=3)["input_ids"][:]
    assert shuffled.eval_dataset["input_ids"][:] == rows["input_ids"][:]


@pytest.mark.parametrize("call", ["evaluate", "predict", "get_eval_dataloader", "get_test_dataloader"])
def test_data_without_labels_are_refused_by_name_whoever_asks(call, make, rows):
    trainer = make(rows)
    with pytest.raises(InputError, match=r"the (eval|test) data lacks .*token_roles"):
        getattr(trainer, call)(raw())
    if call == "evaluate":
        with pytest.raises(InputError, match="the held_out data lacks input_ids, labels, token_roles"):
            trainer.evaluate({"fine": rows, "held_out": raw()})
        with pytest.raises(InputError, match="streamed"):
            trainer.evaluate(rows.to_iterable_dataset())


def test_training_data_of_several_splits_are_refused_by_their_names(make, rows):
    with pytest.raises(InputError, match="the train data has the splits first, second; pass one of them"):
        make(DatasetDict(first=rows, second=rows), rows)


def test_evaluation_data_in_a_dict_are_refused_by_their_name(make, rows):
    with pytest.raises(InputError, match="the other data lacks input_ids"):
        make(rows, {"fine": rows, "other": raw()})


def test_labelled_data_are_refused_where_training_data_have_no_labels(make, rows):
    trainer = make(rows.remove_columns("token_roles"), weighting="none")
    with pytest.raises(InputError, match="evaluation data is labelled"):
        trainer.evaluate(rows)


@pytest.mark.parametrize("packing", [False, True])
def test_data_given_later_are_cut_and_packed_as_those_given_at_the_start(packing, make, rows):
    trainer = make(rows, rows, max_length=12, packing=packing)
    at_the_start = trainer.evaluate()
    for name in ("eval_loss", "eval_loss_token_mean"):
        assert trainer.evaluate(rows)[name] == pytest.approx(at_the_start[name])
        assert trainer.evaluate({"a": rows})[name.replace("eval", "eval_a")] == pytest.approx(at_the_start[name])
    assert max(token_counts(trainer.get_eval_dataloader(rows).dataset)) == 12
    assert len(trainer.get_test_dataloader(rows).dataset) == len(rows)


@pytest.mark.parametrize("trainer", [WeightedSFTTrainer, WeightedGRPOTrainer, ReinforceTrainer])
def test_settings_of_another_kind_are_refused_in_every_trainer(trainer, tmp_path):
    plain = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    needed = {
        name: None
        for name, parameter in inspect.signature(trainer.__init__).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    given = {**needed, "args": plain} | ({} if trainer is ReinforceTrainer else {"weighting": make_weighting("none")})
    del given["self"]
    with pytest.raises(InputError, match="args is of type TrainingArguments; pass a "):
        trainer(**given)
