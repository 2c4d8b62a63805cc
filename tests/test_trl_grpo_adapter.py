"""What weighted GRPO relies on in TRL's insides; a failure here says what moved."""

import copy
import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from grpo_rollouts import fixed_rollout, make_trainer, rollout_of
from transformers import PreTrainedTokenizerFast
from trl import GRPOTrainer

from rolewise.rewards.registry import make_rewards, register_reward
from rolewise.training.trl_grpo_adapter import (
    clipped_tokens,
    loss_mask,
    rollout_number,
    total_rollouts,
    with_empty_completions,
)


@pytest.fixture(scope="module")
def trainer(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> GRPOTrainer:
    directory: Path = tmp_path_factory.mktemp("trl")
    return make_trainer(chatml_tokenizer, directory, ours=False)


def parameters_of(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_signatures_of_what_is_overridden() -> None:
    assert parameters_of(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    assert parameters_of(GRPOTrainer._generate) == ["self", "prompts"]
    assert parameters_of(GRPOTrainer._compute_loss) == ["self", "model", "inputs"]
    assert parameters_of(GRPOTrainer._tokenize_prompts) == ["self", "prompts"]
    assert parameters_of(GRPOTrainer.training_step) == ["self", "model", "inputs", "num_items_in_batch"]
    assert parameters_of(GRPOTrainer.log) == ["self", "logs", "start_time"]
    scoring = parameters_of(GRPOTrainer._get_per_token_logps_and_entropies)
    assert scoring[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    assert {"batch_size", "compute_entropy"} <= set(scoring)
    first = ["self", "model", "reward_funcs", "args", "train_dataset", "eval_dataset", "processing_class"]
    assert parameters_of(GRPOTrainer.__init__)[:7] == first, "GRPOTrainer's first parameters, which ours repeats, moved"


def test_a_rollout_holds_what_is_read_of_it(trainer: GRPOTrainer) -> None:
    rollout = rollout_of(trainer)
    rows, length = rollout["completion_ids"].shape
    assert rows == 8
    for name in ("completion_mask", "tool_mask"):
        assert rollout[name].shape == (rows, length), f"{name} of a rollout moved"
    assert rollout["prompt_ids"].shape == rollout["prompt_mask"].shape
    assert rollout["advantages"].shape == (rows,), "advantages have another shape than (B,)"
    own = fixed_rollout(["question 0"] * 4 + ["question 1"] * 4, trainer)["env_mask"]
    assert [sum(mask) for mask in own] == loss_mask(rollout).sum(dim=1).tolist()


def test_what_is_added_to_a_rollout_comes_back_with_its_rows(trainer: GRPOTrainer, monkeypatch) -> None:
    original = GRPOTrainer._generate_and_score_completions

    def with_mark(self, inputs):
        rollout = original(self, inputs)
        return {**rollout, "mark": rollout["completion_ids"] * 2}

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", with_mark)
    trainer.model.train()
    rows = [dict(trainer.train_dataset[row]) for row in (0,) * 4 + (1,) * 4]
    inputs = trainer._prepare_inputs(rows)
    assert torch.equal(inputs["mark"], inputs["completion_ids"] * 2), "the buffer no longer keeps added tensors by row"


def test_the_loss_scores_once_with_entropies(trainer: GRPOTrainer, monkeypatch) -> None:
    rollout = rollout_of(trainer)
    calls = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def counted(self, *args, **kwargs):
        calls.append(kwargs)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", counted)
    trainer.compute_loss(trainer.model, rollout)
    assert [call.get("compute_entropy") for call in calls] == [True], "_compute_loss scores otherwise than once"


def test_metrics_are_lists_that_the_log_averages(trainer: GRPOTrainer) -> None:
    trainer.model.train()
    trainer._metrics["train"]["probe"] = [1.0, 2.0]
    logs: dict[str, float] = {}
    trainer.log(logs)
    assert logs["probe"] == 1.5, "GRPOTrainer.log no longer averages _metrics"


def test_prompts_of_a_rollout_are_kept_for_the_table_of_responses(trainer: GRPOTrainer) -> None:
    rollout_of(trainer)
    assert list(trainer._logs["prompt"])[-8:] == ["question 0"] * 4 + ["question 1"] * 4, "_logs moved"


@pytest.mark.parametrize("loss_type", ["grpo", "cispo"])
def test_clipped_tokens_are_those_that_trl_counts(
    loss_type: str, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    options = {"epsilon_high": 1.1} if loss_type == "cispo" else {}
    trainer = make_trainer(chatml_tokenizer, tmp_path, ours=False, loss_type=loss_type, **options)
    rollout = rollout_of(trainer)
    trainer.compute_loss(trainer.model, rollout)
    trainer.log(logs := {})
    ours = make_trainer(chatml_tokenizer, tmp_path, loss_type=loss_type, **options)
    logps_BT, _ = ours.score(rollout)
    clipped_BT = clipped_tokens(ours, rollout, rollout["advantages"][:, None], logps_BT)
    share = (clipped_BT & loss_mask(rollout)).sum() / loss_mask(rollout).sum()
    key = "cispo_clip_ratio" if loss_type == "cispo" else "clip_ratio/region_mean"
    assert 0 < share.item() < 1
    assert share.item() == pytest.approx(logs[key])


@pytest.mark.parametrize(
    ("generation", "accumulation", "iterations"),
    [(4, 4, 1), (8, 2, 1), (2, 4, 1), (4, 4, 3), (6, 4, 1), (4, 6, 1), (3, 2, 3), (5, 3, 2)],
)
def test_rollouts_are_counted_by_optimizer_steps(
    generation: int, accumulation: int, iterations: int, chatml_tokenizer, tmp_path: Path
) -> None:
    trainer = make_trainer(
        chatml_tokenizer,
        tmp_path,
        steps_per_generation=generation,
        gradient_accumulation_steps=accumulation,
        num_iterations=iterations,
    )
    trainer.state.max_steps = 13
    counted = []
    # As TRL goes through micro-batches: a rollout serves so many of them, wherever optimizer steps begin and end.
    for micro_batch in range(0, 13 * accumulation, generation * iterations):
        trainer.state.global_step = micro_batch // accumulation
        counted.append((trainer.state.global_step, rollout_number(trainer)))
    if generation * iterations >= accumulation:
        assert [number for _, number in counted] == list(range(len(counted)))
    else:
        assert all(number == step for step, number in counted)
    assert total_rollouts(trainer) == counted[-1][1] + 1


def test_empty_completions_become_an_end_token_without_loss() -> None:
    def rollout(prompts, trainer):
        ids = [[], [5, 6]]
        return {"prompt_ids": [[1], [1]], "completion_ids": ids, "logprobs": [[], [-1.0, -2.0]]}

    output = with_empty_completions(rollout, 2)(["a", "b"], None)
    assert output["completion_ids"] == [[2], [5, 6]]
    assert output["env_mask"] == [[0], [1, 1]]
    assert output["logprobs"] == [[0.0], [-1.0, -2.0]]


def test_rendered_prompts_get_no_special_tokens(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = make_trainer(chatml_tokenizer, tmp_path)
    seen = {}

    def tokenizer(text, **options):
        seen.update(options)
        return {"input_ids": [[1] for _ in text]}

    trainer.processing_class = tokenizer
    trainer.rendered_prompts = True
    assert trainer._tokenize_prompts(["<s>rendered"]) == ([[1]], None, {})
    assert seen == {"add_special_tokens": False}


CALL_BY_SPECIAL_TOKEN = '[TOOL_CALLS] [{"name": "f", "arguments": {"a" : "b , c"}}]'


@pytest.fixture
def mistral_tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    """A special token makes the call."""
    tokenizer = make_tokenizer(special=("<|im_end|>", "[TOOL_CALLS]"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    tokenizer.chat_template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    call = CALL_BY_SPECIAL_TOKEN
    assert "[TOOL_CALLS]" not in tokenizer.decode(tokenizer(call)["input_ids"], skip_special_tokens=True)
    return tokenizer


def call_rollout(prompts, trainer):
    tokenizer = trainer.processing_class
    texts = [CALL_BY_SPECIAL_TOKEN + (tokenizer.eos_token if row else "") for row in range(len(prompts))]
    rows = [tokenizer(text)["input_ids"] for text in texts]
    return {"prompt_ids": [[5]] * len(prompts), "completion_ids": rows, "logprobs": None}


class SeenByAModel(torch.nn.Module):
    """A reward model that remembers the ids it was given, without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(_name_or_path="seen")
        self.seen: list[list[int]] = []

    def forward(self, input_ids, attention_mask, **_):
        pairs = zip(input_ids, attention_mask, strict=True)
        self.seen.extend(ids[mask.bool()].tolist() for ids, mask in pairs)
        return SimpleNamespace(logits=torch.zeros(len(input_ids), 1))


def asked_for_rewards(tokenizer, folder: Path, prompt, *, ours: bool, **options):
    """What a reward model, a function and an async function read in a rollout: ids, completions, completions."""
    model, seen, seen_later = SeenByAModel(), [], []

    def reward(completions, **_):
        seen.extend(completions)
        return [0.0] * len(completions)

    async def reward_later(completions, **_):
        seen_later.extend(completions)
        return [0.0] * len(completions)

    functions = [model, reward, reward_later]
    marked = options.pop("marked", False)
    reward.reads_sampled_text = reward_later.reads_sampled_text = marked
    trainer = make_trainer(
        tokenizer,
        folder,
        ours=ours,
        rollout_func=call_rollout,
        reward_funcs=functions,
        reward_processing_classes=[tokenizer, None, None],
        **options,
    )
    trainer._generate_and_score_completions([{"prompt": prompt}] * 4)
    assert len(model.seen) == len(seen) == len(seen_later) == 4
    return model.seen, seen, seen_later


PROMPTS_THAT_OPEN_A_THOUGHT = ["so <think>\n", [{"role": "user", "content": "so <think>\n"}]]


@pytest.mark.parametrize("prompt", PROMPTS_THAT_OPEN_A_THOUGHT)
@pytest.mark.parametrize("weighting", ["none", "rest"])
def test_reward_models_and_functions_read_what_trl_gives_them(
    weighting: str, prompt, mistral_tokenizer, tmp_path: Path
) -> None:
    """TRL's own trainer is the reference. A thought's tag is read once, and no special token of the completion."""
    expected = asked_for_rewards(mistral_tokenizer, tmp_path, prompt, ours=False)
    found = asked_for_rewards(mistral_tokenizer, tmp_path, prompt, ours=True, weighting=None, args_weighting=weighting)
    assert found == expected
    texts = mistral_tokenizer.batch_decode(found[0], skip_special_tokens=False)
    assert all(text.count("think") == 1 and "[TOOL_CALLS]" not in text for text in texts)


@pytest.mark.parametrize("prompt", PROMPTS_THAT_OPEN_A_THOUGHT)
def test_functions_that_ask_for_it_read_the_sampled_text(prompt, mistral_tokenizer, tmp_path: Path) -> None:
    """With the special tokens, and the thought that a text prompt opened; a model beside them does not."""
    expected = asked_for_rewards(mistral_tokenizer, tmp_path, prompt, ours=False)
    model, *functions = asked_for_rewards(mistral_tokenizer, tmp_path, prompt, ours=True, marked=True)
    call = CALL_BY_SPECIAL_TOKEN
    whole = "<think>\n" + call if isinstance(prompt, str) else [{"role": "assistant", "content": call}]
    assert functions == [[whole] * 4] * 2
    assert model == expected[0]


@pytest.mark.parametrize("opens", [True, False])
def test_a_thought_that_the_template_opens_behind_messages_is_opened(opens, chatml_tokenizer, tmp_path: Path) -> None:
    """As the ids that were generated from have it; TRL's own completions and its models' text stay without."""
    seen, told = [], []

    def reward(completions, completion_ids, **_):
        seen.extend((message["content"], ids) for [message], ids in zip(completions, completion_ids, strict=True))
        return [0.0] * len(completions)

    def plain(completions, **_):
        told.extend(completion[0]["content"] for completion in completions)
        return [0.0] * len(completions)

    reward.reads_sampled_text = True
    tokenizer = copy.deepcopy(chatml_tokenizer)
    start = "<|im_start|>assistant{{ '\n" + "<think>\n" * opens + "' }}"  # Jinja drops a line break that ends it all
    written = "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    tokenizer.chat_template = f"{{% for message in messages %}}{written}{{% endfor %}}{start}"
    trainer = make_trainer(tokenizer, tmp_path, rollout_func=None, reward_funcs=[reward, plain], weighting=None)
    rows = [{"prompt": [{"role": "user", "content": f"question {number}"}]} for number in (0, 0, 0, 0, 1, 1, 1, 1)]
    trainer._generate_and_score_completions(rows)
    assert len(seen) == 8
    for content, ids in seen:
        own = ids[:-1] if ids[-1] in (tokenizer.eos_token_id, tokenizer.pad_token_id) else ids
        assert content == "<think>\n" * opens + tokenizer.decode(own)
    assert told == [tokenizer.decode(ids, skip_special_tokens=True) for _, ids in seen]


@pytest.mark.usefixtures("registries")
def test_our_own_rewards_ask_for_the_sampled_text() -> None:
    register_reward("of one's own", lambda completions, **_: [0.0] * len(completions))
    made = make_rewards(["rest", "of one's own"], lambda rules: rules)
    assert all(reward.reads_sampled_text for reward in made)


def test_messages_that_the_parser_took_apart_stay(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = make_trainer(chatml_tokenizer, tmp_path)
    trainer._prompt_ids = [[5]]
    parsed = [[{"role": "assistant", "content": "x", "tool_calls": []}]]
    prompts = [[{"role": "user", "content": "?"}]]
    assert trainer._as_sampled(prompts, parsed, [[5]]) == parsed
    trainer.tools = [print]
    assert trainer._as_sampled(prompts, [["of several turns"]], [[5]]) == [["of several turns"]]


def test_a_resumed_run_meets_its_prompts_in_the_order_of_its_epoch(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    plain = make_trainer(chatml_tokenizer, tmp_path, ours=False)._get_train_sampler()
    epochs = [list(plain) for _ in range(3)]
    assert epochs[0] != epochs[1]
    resumed = make_trainer(chatml_tokenizer, tmp_path)
    resumed.state.epoch = 1.5
    sampler = resumed._get_train_sampler()
    assert len(sampler) == len(plain)
    assert list(sampler) == epochs[1]
    resumed.state.epoch = 2 - 1e-9
    assert list(sampler) == epochs[2]


def test_the_reference_scores_every_rollout_where_kl_counts(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    ours = make_trainer(chatml_tokenizer, tmp_path, beta=0.5)
    rollout = rollout_of(ours)
    assert "ref_per_token_logps" in rollout, "a rollout no longer holds the reference's log-probabilities"
    with_kl = ours.compute_loss(ours.model, rollout).item()
    ours.kl_in_loss = False
    without = ours.compute_loss(ours.model, rollout).item()
    assert ours.beta == 0.5
    ours.kl_in_loss, ours.beta = True, 0.0
    assert without == pytest.approx(ours.compute_loss(ours.model, rollout).item())
    assert with_kl > without + 1e-3, "`beta` no longer adds KL to the loss"


def test_rewards_may_log_numbers_of_their_own(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def reward(prompts, log_metric, **_):
        for number in range(len(prompts)):
            log_metric("probe", float(number))
        return [1.0] * len(prompts)

    trainer = make_trainer(chatml_tokenizer, tmp_path, ours=False, reward_funcs=reward)
    rollout_of(trainer)
    trainer.log(logs := {})
    assert logs["probe"] == 3.5, "log_metric no longer averages what a reward function logs"
