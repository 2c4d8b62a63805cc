"""Weighted GRPO against TRL's own and against the weighted loss written by hand. Shapes: B responses, T tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trl
from datasets import Dataset
from grpo_rollouts import COLOURS, LOSS_TYPES, fixed_rollout, loss_and_gradients, make_trainer, rollout_of
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.core.role import Role
from rolewise.training.gradient_variance import GradientVariance
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.grpo_config import make_rollout_weighting
from rolewise.training.models import lora_config
from rolewise.training.rollout_roles import ROLLOUTS_LOOKED_AT, RolloutRoles, call_regions
from rolewise.training.trl_grpo_adapter import loss_mask
from rolewise.weighting import AlphaFT, EntropyResT, ResT, ResTOfficial
from rolewise.weighting.ramp import Ramp

TOLERANCE = 1e-6
CALL = '<think> in Paris </think>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def calls(prompts, trainer):
    """The same call by every row; a few tokens more by some, so that rewards differ."""
    tokenizer = trainer.processing_class
    texts = [CALL + (" Paris", " city", "", "?")[row % 4] for row in range(len(prompts))]
    return {
        "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
        "completion_ids": [tokenizer(text)["input_ids"] for text in texts],
        "logprobs": None,
    }


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=TOLERANCE, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_weights_of_one_are_trls_own_grpo(
    loss_type: str, level: str, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    options = {"loss_type": loss_type, "beta": 0.1, "importance_sampling_level": level}
    trl = make_trainer(chatml_tokenizer, tmp_path, ours=False, **options)
    ours = make_trainer(chatml_tokenizer, tmp_path, weighting=lambda t: torch.full(t.mask_BT.shape, 3.0), **options)
    expected, gradients = loss_and_gradients(trl, rollout_of(trl))
    rollout = rollout_of(ours)
    assert rollout["advantages"].shape == rollout["completion_ids"].shape
    found, found_gradients = loss_and_gradients(ours, rollout)
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert_same_gradients(found_gradients, gradients)


def test_an_adapters_gradients_are_trls_too(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    adapter = {"peft_config": lora_config(4)}
    trl = make_trainer(chatml_tokenizer, tmp_path, ours=False, **adapter)
    ours = make_trainer(
        chatml_tokenizer, tmp_path, weighting=lambda tokens: torch.ones(tokens.mask_BT.shape), **adapter
    )
    expected, gradients = loss_and_gradients(trl, rollout_of(trl))
    found, found_gradients = loss_and_gradients(ours, rollout_of(ours))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert gradients
    assert all("lora_" in name for name in gradients)
    assert_same_gradients(found_gradients, gradients)


def loss_by_hand(trainer, rollout, weights_BT):
    """The weighted loss of each type, from the full logits."""
    ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1)
    attention = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1)
    logits = trainer.model(input_ids=ids, attention_mask=attention).logits
    length = rollout["completion_ids"].size(1)
    logps = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0][:, -length:]
    mask = rollout["completion_mask"] * rollout["tool_mask"]
    old = rollout["old_per_token_logps"]
    advantages = rollout["plain_advantages"]
    rows, args = len(mask), trainer.args
    total = 0.0
    for row in range(rows):
        advantage = float(advantages[row])
        of_row = 0.0
        phi = 1.0
        if args.loss_type == "vespo":
            log_w = float(((logps[row] - old[row]).clamp(-20, 20) * mask[row]).sum().clamp(-18.420680743952367, 20))
            k, lam = (
                (args.vespo_k_pos, args.vespo_lambda_pos)
                if advantage >= 0
                else (args.vespo_k_neg, args.vespo_lambda_neg)
            )
            phi = float(torch.exp(torch.tensor(lam + k * log_w - lam * torch.tensor(log_w).exp())))
        for place in range(length):
            if not mask[row, place]:
                continue
            ratio = (logps[row, place] - old[row, place]).exp()
            if args.loss_type == "cispo":
                loss = -ratio.detach().clamp(max=trainer.epsilon_high) * advantage * logps[row, place]
            elif args.loss_type == "sapo":
                temperature = args.sapo_temperature_pos if advantage > 0 else args.sapo_temperature_neg
                loss = -torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature * advantage
            elif args.loss_type == "vespo":
                loss = -phi * advantage * logps[row, place]
            else:
                clipped = ratio.clamp(1 - trainer.epsilon_low, 1 + trainer.epsilon_high)
                loss = -torch.minimum(ratio * advantage, clipped * advantage)
            of_row = of_row + weights_BT[row, place] * loss
        if args.loss_type in ("grpo", "sapo"):
            of_row = of_row / max(int(mask[row].sum()), 1) / rows
        elif args.loss_type == "luspo":
            of_row = of_row / rows
        elif args.loss_type == "dr_grpo":
            of_row = of_row / (rows * trainer.max_completion_length)
        else:
            of_row = of_row / int(mask.sum())
        total = total + of_row
    if not args.beta:
        return total
    # KL counts every token alike, by the same denominators.
    reference = rollout["ref_per_token_logps"] - logps
    kl = args.beta * (reference.exp() - reference - 1) * mask * (logps - old).exp()  # TRL's correction of its bias
    if args.loss_type in ("grpo", "sapo"):
        return total + (kl.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if args.loss_type == "luspo":
        return total + kl.sum(1).mean()
    return total + kl.sum() / (rows * trainer.max_completion_length if args.loss_type == "dr_grpo" else mask.sum())


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_random_weights_are_the_weighted_loss_by_hand(
    loss_type: str, beta: float, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trl = make_trainer(chatml_tokenizer, tmp_path, ours=False, loss_type=loss_type, beta=beta)
    ours = make_trainer(chatml_tokenizer, tmp_path, loss_type=loss_type, beta=beta)
    rollout = rollout_of(ours)
    rollout["plain_advantages"] = rollout_of(trl)["advantages"]
    mask = loss_mask(rollout)
    generator = torch.Generator().manual_seed(1)
    raw = 2 * torch.rand(mask.shape, generator=generator)
    raw = raw * (torch.rand(mask.shape, generator=generator) > 0.2) * mask
    weights = raw * int(mask.sum()) / float(raw.sum())
    assert (weights[mask] == 0).any()
    expected = loss_by_hand(ours, rollout, weights)
    ours.model.zero_grad()
    expected.backward()
    gradients = {n: p.grad.clone() for n, p in ours.model.named_parameters() if p.grad is not None}
    found, found_gradients = loss_and_gradients(ours, rollout)
    assert found == pytest.approx(expected.item(), abs=TOLERANCE, rel=1e-5)
    assert_same_gradients(found_gradients, gradients)


@pytest.mark.parametrize("loss_type", ["dapo", "bnpo", "grpo", "vespo"])
def test_rest_official_is_a_weighted_mean_over_tokens(
    loss_type: str, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Σ w · mask · l / Σ w · mask where TRL's denominator counts tokens; the weights by the rule, on the very ids."""
    ours = make_trainer(
        chatml_tokenizer, tmp_path, loss_type=loss_type, roles=None, weighting=ResTOfficial(), rollout_func=calls
    )
    rollout = rollout_of(ours)
    mask = loss_mask(rollout)
    regions = rollout["token_roles"]
    weight_of = {Region.TAG: 1.0, Region.TOOL_NAME: 1.2, Region.THINK: 0.6}
    weight_of |= dict.fromkeys((Region.ARGUMENTS, Region.ARGUMENT_NAME, Region.ARGUMENT_VALUE), 0.6)
    weights = torch.zeros(mask.shape)
    for row, place in mask.nonzero().tolist():
        weights[row, place] = weight_of.get(Region(int(regions[row, place])), 0.0)
    for row in weights:
        if (row > 0).any():
            row /= row[row > 0].mean()
    assert {Region.TOOL_NAME, Region.THINK, Region.OTHER} <= set(map(Region, regions[mask].tolist()))
    torch.testing.assert_close(rollout["token_weights"], weights * mask.sum() / weights.sum())
    if loss_type not in ("dapo", "bnpo"):
        return
    ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1)
    attention = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1)
    logits = ours.model(input_ids=ids, attention_mask=attention).logits
    logps = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0][:, -mask.size(1) :]
    ratios = (logps - rollout["old_per_token_logps"]).exp()
    signs = make_trainer(chatml_tokenizer, tmp_path, ours=False, rollout_func=calls)
    advantages = rollout_of(signs)["advantages"][:, None]
    clipped = ratios.clamp(1 - ours.epsilon_low, 1 + ours.epsilon_high)
    losses = -torch.minimum(ratios * advantages, clipped * advantages)
    expected = (weights * losses).sum() / weights.sum()
    assert loss_and_gradients(ours, rollout)[0] == pytest.approx(expected.item(), abs=TOLERANCE)


def test_bnpo_divides_by_the_weights_of_its_micro_batch(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    ours = make_trainer(chatml_tokenizer, tmp_path, loss_type="bnpo")
    rollout = rollout_of(ours)
    part = {name: value[2:5] if value.dim() else value for name, value in rollout.items()}
    mask, weights = loss_mask(part), part["token_weights"]
    assert weights[mask].mean().item() != pytest.approx(1, abs=0.01)
    part["plain_advantages"] = rollout_of(make_trainer(chatml_tokenizer, tmp_path, ours=False))["advantages"][2:5]
    expected = loss_by_hand(ours, part, weights) * mask.sum() / weights.sum()
    assert loss_and_gradients(ours, part)[0] == pytest.approx(expected.item(), abs=TOLERANCE)


def test_micro_batches_and_accumulation_do_not_change_the_gradient(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A step of one micro-batch of eight against four of two, through the trainer's own buffer."""
    gradients = []
    for batch, accumulation in ((8, 1), (2, 4)):
        trainer = make_trainer(
            chatml_tokenizer,
            tmp_path,
            weighting=lambda tokens: 1.0 + tokens.roles_BT,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = accumulation
        rows = [dict(trainer.train_dataset[row]) for row in (0,) * 4 + (1,) * 4]
        trainer.model.zero_grad()
        for _ in range(accumulation):
            trainer.compute_loss(trainer.model, trainer._prepare_inputs(rows)).backward()
            trainer._step += 1
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters()})
    assert_same_gradients(gradients[1], gradients[0])


def test_the_environments_tokens_have_no_weight_and_each_turn_is_a_response(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def two_turns(prompts, trainer):
        turn = chatml_tokenizer(CALL)["input_ids"]
        result = chatml_tokenizer("result " + CALL)["input_ids"]
        return {
            "prompt_ids": [chatml_tokenizer(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": [turn + result + turn for _ in prompts],
            "logprobs": None,
            "env_mask": [[1] * len(turn) + [0] * len(result) + [1] * len(turn) for _ in prompts],
        }

    trainer = make_trainer(chatml_tokenizer, tmp_path, roles=None, weighting=ResT(), rollout_func=two_turns)
    rollout = rollout_of(trainer)
    turn, total = len(chatml_tokenizer(CALL)["input_ids"]), rollout["completion_ids"].size(1)
    first, second = rollout["token_roles"][0, :turn], rollout["token_roles"][0, total - turn :]
    assert torch.equal(first, second)
    assert (first == Region.TOOL_NAME).any()
    assert (rollout["token_roles"][0, turn : total - turn] == Region.OTHER).all()
    assert (rollout["advantages"][:, turn : total - turn] == 0).all()
    assert (rollout["token_weights"][:, :turn] > 0).all()


class Desk:
    """An environment with one tool."""

    def reset(self, **_):
        return None

    def multiply(self, a: int, b: int) -> int:
        """Multiply two numbers.

        Args:
            a: The first.
            b: The second.
        """
        return a * b


@pytest.mark.parametrize("environment", [False, True])
def test_trls_tools_and_environments_answer_without_weight(
    environment: bool, make_tokenizer, tmp_path: Path, monkeypatch
) -> None:
    """A rollout of two turns through TRL's own loop, the policy's words given; a template that TRL can parse."""

    tokenizer = make_tokenizer((Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text())
    call = '<tool_call>\n{"name": "multiply", "arguments": {"a": 30, "b": 4}}\n</tool_call><|im_end|>'
    said = [tokenizer(text)["input_ids"] for text in (call, "<think>\nSo.\n</think>\n\nIt is 120.<|im_end|>")]
    turns = iter(said)
    seen = []

    def reward(completions, **_):
        seen.extend(completions)
        return [1.0, 2.0, 3.0, 4.0]

    model = tiny_model(vocab_size=len(tokenizer))
    model.config.max_position_embeddings = 4096  # TRL drops a tool's result that would not fit
    trainer = WeightedGRPOTrainer(
        model,
        reward,
        WeightedGRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=900,
            call_format="hermes",
            use_cpu=True,
            report_to="none",
            bf16=False,
        ),
        Dataset.from_dict({"prompt": [[{"role": "user", "content": "30 * 4?"}]]}),
        processing_class=tokenizer,
        **({"environment_factory": Desk} if environment else {"tools": [Desk().multiply]}),
    )

    def sampled(prompt_ids, *_, **__):
        ids = next(turns)
        return [ids for _ in prompt_ids], None

    monkeypatch.setattr(trainer, "_generate_single_turn", sampled)
    rollout = trainer._generate_and_score_completions([dict(trainer.train_dataset[0])] * 4)
    assert [message["role"] for message in seen[0]] == ["assistant", "tool", "assistant"]
    assert seen[0][1]["content"] == "120"
    own = [*range(len(said[0])), *range(rollout["completion_ids"].size(1) - len(said[1]), len(rollout["tool_mask"][0]))]
    ids, weights = rollout["completion_ids"][0], rollout["token_weights"][0]
    assert ids[own].tolist() == said[0] + said[1]
    assert (weights[own] > 0).all()
    others = torch.ones(len(ids), dtype=torch.bool).index_fill_(0, torch.tensor(own), False)
    assert "120" in tokenizer.decode(ids[others])
    assert not weights[others].any()
    assert not rollout["advantages"][0][others].any()
    text = {region: tokenizer.decode(ids[rollout["token_roles"][0] == region]) for region in Region}
    assert (text[Region.TOOL_NAME], text[Region.ARGUMENT_NAME]) == ("multiply", "ab")
    assert (text[Region.THINK].strip(), text[Region.RESPONSE].strip()) == ("So.", "It is 120.")


def test_all_equal_rewards_and_empty_completions_make_no_nan(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def half_empty(prompts, trainer):
        output = fixed_rollout(prompts, trainer)
        masks = output.pop("env_mask")
        output["completion_ids"] = [ids if row % 2 else [] for row, ids in enumerate(output["completion_ids"])]
        return output if len(prompts) % 2 else {**output, "env_mask": [m if r % 2 else [] for r, m in enumerate(masks)]}

    trainer = make_trainer(
        chatml_tokenizer, tmp_path, rollout_func=half_empty, reward_funcs=lambda prompts, **_: [1.0] * len(prompts)
    )
    rollout = rollout_of(trainer)
    assert (rollout["advantages"] == 0).all()
    assert not loss_mask(rollout)[::2].any()
    loss, gradients = loss_and_gradients(trainer, rollout)
    assert loss == 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    trainer.log(logs := {})
    assert all(value is None or value == value for value in logs.values())


def test_parameters_that_nothing_reads_are_refused(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    args = {"ramp": "cosine"}
    with pytest.raises(InputError, match="leave one of them out"):
        make_trainer(chatml_tokenizer, tmp_path, roles=None, weighting=ResT(), weighting_args=args)
    with pytest.raises(InputError, match="weighting none has no parameter 'ramp'"):
        make_rollout_weighting(WeightedGRPOConfig(output_dir=str(tmp_path), weighting="none", weighting_args=args))


def test_responses_without_any_weight_get_no_gradient(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(chatml_tokenizer, tmp_path, weighting=lambda tokens: torch.zeros(tokens.mask_BT.shape))
    loss, gradients = loss_and_gradients(trainer, rollout_of(trainer))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_a_format_that_is_never_used_is_said_once(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    said: list[str] = []
    trainer = make_trainer(chatml_tokenizer, tmp_path, roles=None, weighting=ResT(), say=said.append)
    for _ in range(ROLLOUTS_LOOKED_AT + 3):
        rollout_of(trainer)
    assert len(said) == 1
    assert "0 % of their" in said[0]
    trainer = make_trainer(
        chatml_tokenizer, tmp_path, roles=None, weighting=ResT(), rollout_func=calls, say=said.append
    )
    for _ in range(ROLLOUTS_LOOKED_AT + 3):
        rollout_of(trainer)
    assert len(said) == 1


@pytest.mark.parametrize("opening", ["<think>", "<think>\n", " \n<think>\n\n", ""])
def test_a_thought_that_the_prompt_opened_is_one_though_it_never_ends(opening: str, chatml_tokenizer) -> None:
    roles = call_regions(chatml_tokenizer, None)
    before = chatml_tokenizer("<|im_start|>user\nWeather?<|im_end|>" + opening)["input_ids"]
    response = chatml_tokenizer("the weather in Paris, so")["input_ids"]
    (found,) = roles.label([before], [response])
    assert set(found.tolist()) == {Region.THINK if opening else Region.OTHER}
    assert len(found) == len(response)
    (found,) = roles.label([[]], [response])
    assert set(found.tolist()) == {Region.OTHER}


def test_roles_of_ones_own_and_a_scheme_of_fine_tuning(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """α-FT on sampled tokens: boilerplate has the share α of each response's weight, whatever the roles' source."""
    seen: list[list[int]] = []

    def by_parity(before, responses):
        seen.extend(map(list, before))
        roles = (Role.REASONING, Role.BOILERPLATE)
        return [np.array([roles[i % 2] for i in ids], dtype=np.uint8) for ids in responses]

    source = RolloutRoles(by_parity, {int(role): role.label for role in Role}, outside=int(Role.CONTEXT))
    trainer = make_trainer(chatml_tokenizer, tmp_path, roles=source, weighting=AlphaFT(0.25))
    rollout = rollout_of(trainer)
    assert chatml_tokenizer("question 0")["input_ids"] in seen
    weights, roles = rollout["token_weights"], rollout["token_roles"]
    both = [r for r in range(8) if {Role.REASONING, Role.BOILERPLATE} <= set(roles[r].tolist())]
    assert both
    for row in both:
        share = weights[row][roles[row] == Role.BOILERPLATE].sum() / weights[row].sum()
        assert share.item() == pytest.approx(0.25, abs=1e-5)
    assert weights[loss_mask(rollout)].mean().item() == pytest.approx(1, abs=1e-5)


def test_a_labeller_that_misbehaves_is_named(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    short = RolloutRoles(lambda before, responses: [np.zeros(1, np.uint8) for _ in responses], {0: "red"})
    with pytest.raises(InputError, match="1 roles for a response of"):
        rollout_of(make_trainer(chatml_tokenizer, tmp_path, roles=short))
    unknown = RolloutRoles(lambda before, responses: [np.full(len(ids), 9) for ids in responses], {0: "red"})
    with pytest.raises(InputError, match="role 9"):
        rollout_of(make_trainer(chatml_tokenizer, tmp_path, roles=unknown))


def test_entropies_steer_the_entropy_informed_weights(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(
        chatml_tokenizer, tmp_path, roles=None, weighting=EntropyResT(ramp=Ramp(0, 1, steps=100)), rollout_func=calls
    )
    rollout = rollout_of(trainer)
    _, entropies = trainer.score(rollout)
    mask, regions, weights = loss_mask(rollout), rollout["token_roles"], rollout["token_weights"]
    present = [region for region in Region if region != Region.OTHER and (regions[mask] == region).any()]
    means = {region: entropies[mask & (regions == region)].mean().item() for region in present}
    # All rows are one response, so the weights of a region are all alike.
    weight = {region: weights[mask & (regions == region)].mean().item() for region in present}
    assert sorted(present, key=means.__getitem__) == sorted(present, key=weight.__getitem__, reverse=True)
    assert max(weight.values()) / min(weight.values()) == pytest.approx(1.2 / 0.6, rel=1e-4)


def test_log_lines_tell_entropy_share_and_weight_of_each_role(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(chatml_tokenizer, tmp_path, loss_type="dapo")
    rollout = rollout_of(trainer)
    trainer.compute_loss(trainer.model, rollout)
    trainer.log(logs := {})
    _, entropies = trainer.score(rollout)
    mask, roles = loss_mask(rollout), rollout["token_roles"]
    ratios = (trainer.score(rollout)[0] - rollout["old_per_token_logps"]).exp()
    for number, name in COLOURS.names.items():
        own = mask & (roles == number)
        assert logs[f"share/{name}"] == pytest.approx((own.sum() / mask.sum()).item())
        assert logs[f"entropy/{name}"] == pytest.approx(entropies[own].mean().item(), rel=1e-5)
        assert logs[f"weight/{name}"] == pytest.approx(rollout["token_weights"][own].mean().item(), rel=1e-5)
        advantages = rollout["advantages"][own]
        clipped = ((ratios[own] < 0.8) & (advantages < 0)) | ((ratios[own] > 1.2) & (advantages > 0))
        assert logs[f"clip_ratio/{name}"] == pytest.approx(clipped.float().mean().item())
    assert 0 < sum(logs[f"clip_ratio/{name}"] for name in COLOURS.names.values()) < 3
    assert sum(logs[f"share/{n}"] * logs[f"weight/{n}"] for n in COLOURS.names.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "moe", "gemma2"])
def test_the_gradients_variance_against_sample_by_sample(
    kind: str, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    options = {"router_aux_loss_coef": 0.0} if kind == "moe" else {}  # it is of the whole batch, not of a row
    trainer = make_trainer(chatml_tokenizer, tmp_path, kind=kind, loss_type="dr_grpo", **options)
    trainer.model.train()
    probe = GradientVariance(trainer.model)
    weight = trainer.model.model.layers[-1].self_attn.o_proj.weight
    rollout = rollout_of(trainer)
    loss_and_gradients(trainer, rollout)
    numbers = probe.take(trainer.accelerator)
    rows = []
    for row in range(8):  # of a constant denominator, so that a row's part of the loss is its own
        one = {k: v[row : row + 1] if torch.is_tensor(v) and v.dim() else v for k, v in rollout.items()}
        loss_and_gradients(trainer, one)
        rows.append(weight.grad.flatten().double().clone())
    probe.take(trainer.accelerator)
    expected = torch.stack(rows).var(dim=0).sum().item()
    assert numbers["policy_gradient/variance"] == pytest.approx(expected, rel=1e-3)
    square = torch.stack(rows).mean(dim=0).square().sum().item()
    assert numbers["policy_gradient/square_norm"] == pytest.approx(square, rel=1e-3)
    assert probe.take(trainer.accelerator) == {}
