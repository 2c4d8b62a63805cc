"""What the trainer refuses of labelled data, in one line each, before or at the first step."""

import numpy as np
import pytest
from datasets import load_from_disk
from tiny import tiny_model
from workbench import Workbench, tiny_tokenizer

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import LabelledInfo, TokenLabels, noted_tokenizer, save_labelled
from rolewise.data.render import Renderer, tokenizer_fingerprint
from rolewise.generator import generate
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer

pytest_plugins = ("workbench",)


@pytest.fixture(scope="module")
def rows(bench: Workbench, tmp_path_factory):
    """Four labelled samples, as a user loads them."""
    tokenizer = bench.tokenizer()
    samples = [sample for c in generate(4, seed=0) for sample in Renderer(tokenizer).render(c)]
    labels = [TokenLabels.without_losses(np.where(s.loss_mask, Role.REASONING, Role.CONTEXT)) for s in samples]
    info = LabelledInfo(
        method="regex",
        model="tiny",
        model_hash="",
        tokenizer=tokenizer_fingerprint(tokenizer),
        rendering="",
        threshold=None,
        format_quantile=None,
        counts={},
        settings={},
        versions={},
    )
    directory = tmp_path_factory.mktemp("labelled")
    save_labelled(directory, samples, labels, [False] * len(samples), info)
    return load_from_disk(str(directory))


def trainer(rows, tokenizer, tmp_path, **more):
    config = WeightedSFTConfig(
        output_dir=str(tmp_path), weighting="rft", max_steps=1, per_device_train_batch_size=2, report_to="none"
    )
    model = tiny_model(vocab_size=len(tokenizer))
    return WeightedSFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer, **more)


def test_rows_know_their_tokenizer_and_train_with_it(rows, bench, tmp_path):
    assert noted_tokenizer(rows) == tokenizer_fingerprint(bench.tokenizer())
    trained = trainer(rows, bench.tokenizer(), tmp_path)
    trained.train()
    assert trained.state.log_history[0]["share_reasoning"] == 1.0


def test_another_tokenizer_is_refused(rows, tmp_path):
    with pytest.raises(InputError, match="a different tokenizer"):
        trainer(rows, tiny_tokenizer(["quite another corpus"], 400), tmp_path)


def test_streams_and_unlabelled_evaluation_data_are_refused(rows, bench, tmp_path):
    with pytest.raises(InputError, match="streamed"):
        trainer(rows.to_iterable_dataset(), bench.tokenizer(), tmp_path)
    with pytest.raises(InputError, match="the eval data lacks token_roles"):
        trainer(rows, bench.tokenizer(), tmp_path, eval_dataset=rows.remove_columns("token_roles"))


def test_a_sample_without_loss_tokens_is_named(rows, bench, tmp_path):
    masked = rows.map(lambda row: {"labels": [-100] * len(row["labels"])})
    with pytest.raises(InputError, match=r"generator:train:seed0:.*no token carries loss"):
        trainer(masked, bench.tokenizer(), tmp_path).train()


def test_roles_of_another_length_are_named(rows, bench, tmp_path):
    short = rows.map(lambda row: {"token_roles": row["token_roles"][:-1]})
    with pytest.raises(InputError, match="token_roles for"):
        trainer(short, bench.tokenizer(), tmp_path).train()


def test_a_collator_that_drops_roles_is_refused(rows, bench, tmp_path):
    def collate(examples):
        import torch

        ids = torch.tensor([example["input_ids"][:20] for example in examples])
        return {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}

    with pytest.raises(InputError, match="collator"):
        trainer(rows, bench.tokenizer(), tmp_path, data_collator=collate).train()
