"""REINFORCE++ against the formula written by hand. Shapes: B paths, T tokens."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from reinforce_rollouts import FixedRollouts, make_trainer, rollout_of, shift_policy
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast
from workbench import environment

from rolewise.core.errors import InputError
from rolewise.training.models import lora_config
from rolewise.training.reinforce import check_reinforce
from rolewise.training.returns import normalised, returns_to_go
from rolewise.training.rollout_paths import RolledPath
from rolewise.training.trl_grpo_adapter import loss_mask

TOLERANCE = 1e-6
SCRIPT = Path(__file__).with_name("reinforce_rollouts.py")


def logps_of(model, path):
    """Log-probability of each of a path's tokens, from the full logits of the unpadded path."""
    ids = torch.tensor([[*path.prompt_ids, *path.ids]])
    logps_TV = model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(path.prompt_ids)
    return torch.stack([logps_TV[start + place - 1, token] for place, token in enumerate(path.ids)])


def own_places(path, train_choices):
    return [place for place in range(len(path.ids)) if train_choices or place not in path.chosen]


def advantages_by_hand(paths, old, reference, beta, train_choices=True):
    """For each path its tokens' advantages, token by token; None for those without loss."""
    returns = []
    for path, before, base in zip(paths, old, reference, strict=True):
        own = own_places(path, train_choices)
        reward = [
            path.rewards[t] - (beta * float(before[t] - base[t]) if t in own else 0.0) for t in range(len(path.ids))
        ]
        returns.append([sum(reward[t:]) if t in own else None for t in range(len(path.ids))])
    counted = [value for row in returns for value in row if value is not None]
    mean = sum(counted) / len(counted)
    deviation = max(sum((value - mean) ** 2 for value in counted) / len(counted), 1e-8) ** 0.5
    return [[None if value is None else (value - mean) / deviation for value in row] for row in returns]


def loss_by_hand(model, paths, advantages, old, epsilon=0.2):
    """−min(ratio · A, clip(ratio) · A), mean over the tokens that carry loss; and how many were clipped."""
    total, tokens, clipped = 0.0, 0, 0
    for path, row, before in zip(paths, advantages, old, strict=True):
        now = logps_of(model, path)
        for place, advantage in enumerate(row):
            if advantage is None:
                continue
            ratio = (now[place] - before[place]).exp()
            bounded = min(max(ratio, 1 - epsilon), 1 + epsilon)
            total = total - min(ratio * advantage, bounded * advantage)
            tokens += 1
            clipped += int((ratio < 1 - epsilon and advantage < 0) or (ratio > 1 + epsilon and advantage > 0))
    return total / tokens, clipped / tokens


@pytest.mark.parametrize("train_choices", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_loss_and_gradients_are_the_formula_by_hand(
    beta: float, train_choices: bool, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(chatml_tokenizer, tmp_path, beta=beta, train_choices=train_choices)
    shift_policy(trainer)
    rollout = rollout_of(trainer)
    paths = trainer._paths
    with torch.no_grad():
        old = [logps_of(trainer.model, path) for path in paths]
        reference_model = tiny_model(vocab_size=len(chatml_tokenizer))
        reference = [logps_of(reference_model, path) for path in paths]
        advantages = advantages_by_hand(paths, old, reference, beta, train_choices)
        mask = loss_mask(rollout)
        for row, by_hand in enumerate(advantages):
            assert mask[row].nonzero().flatten().tolist() == [t for t, a in enumerate(by_hand) if a is not None]
            expected = torch.tensor([0.0 if a is None else a for a in by_hand])
            torch.testing.assert_close(rollout["advantages"][row, : len(expected)], expected, atol=2e-5, rtol=1e-4)
        shift_policy(trainer, 0.05)  # an update between rollout and loss, so that ratios are clipped
        rollout["old_per_token_logps"] = torch.zeros_like(rollout["advantages"])
        for row, values in enumerate(old):
            rollout["old_per_token_logps"][row, : len(values)] = values
    found_advantages = [
        [None if a is None else float(rollout["advantages"][row, t]) for t, a in enumerate(by_hand)]
        for row, by_hand in enumerate(advantages)
    ]
    expected_loss, clipped = loss_by_hand(trainer.model, paths, found_advantages, old)
    trainer.model.zero_grad()
    expected_loss.backward()
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, rollout)
    loss.backward()
    assert 0 < clipped < 1
    assert loss.item() == pytest.approx(expected_loss.item(), abs=TOLERANCE)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], atol=TOLERANCE, rtol=1e-4, msg=lambda m, n=name: n + m
        )
    trainer.log(logs := {})
    assert logs["clip_ratio/region_mean"] == pytest.approx(clipped)
    if beta:
        own = [(path, own_places(path, train_choices)) for path in paths]
        terms = [o[t] - r[t] for (_, places), o, r in zip(own, old, reference, strict=True) for t in places]
        assert logs["kl"] == pytest.approx(float(sum(terms) / len(terms)), abs=1e-5)
        assert logs["kl"] != pytest.approx(0, abs=1e-3)
    assert logs["reward"] == pytest.approx(sum(path.outcome for path in paths) / 8)
    assert logs["right"] == pytest.approx(sum(path.right for path in paths) / 8)
    assert logs["steps/output"] == pytest.approx(sum("output" in path.behaviours for path in paths) / 8)
    assert trainer.beta == beta


def test_the_last_token_with_loss_sees_the_rewards_of_later_chosen_ones(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A token without loss still earns: what stands there is part of the returns before it."""
    path = RolledPath([5], [6, 7, 8], [0.0, 0.25, 1.0], 1.0, chosen=frozenset({1}))
    other = RolledPath([5], [6, 7], [0.0, 0.0], 0.0)

    def rollouts(model, rows, paths, *, seed):
        return [[path, other] * (count // 2) for count in paths]

    rollout = rollout_of(make_trainer(chatml_tokenizer, tmp_path, rollouts, beta=0.0, train_choices=False))
    advantages = rollout["advantages"][0]
    # Returns with loss: 1.25 and 1 of the one, 0 and 0 of the other.
    mean, deviation = 0.5625, (((1.25 - 0.5625) ** 2 + (1 - 0.5625) ** 2 + 2 * 0.5625**2) / 4) ** 0.5
    expected = [(1.25 - mean) / deviation, 0.0, (1 - mean) / deviation]
    assert advantages.tolist() == pytest.approx(expected, abs=1e-6)


def test_returns_are_what_follows() -> None:
    rewards = torch.tensor([[0.0, 1.0, 0.5], [2.0, 0.0, 0.0]])
    assert returns_to_go(rewards).tolist() == [[1.5, 1.5, 0.5], [2.0, 0.0, 0.0]]


def test_normalised_over_parts_is_normalised_over_the_whole() -> None:
    """Two threads play the processes: they meet at every sum."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 5, generator=generator) * 3 + 7
    mask = torch.rand(6, 5, generator=generator) > 0.4
    whole = normalised(values, mask)
    counted = values[mask].double()
    reference = (values.double() - counted.mean()) / counted.std(correction=0)
    torch.testing.assert_close(whole, torch.where(mask, reference, 0.0).float())
    meeting = threading.Barrier(2, timeout=20)
    sent: dict[int, torch.Tensor] = {}

    def process(own: int) -> torch.Tensor:
        def add(sums: torch.Tensor) -> torch.Tensor:
            sent[own] = sums
            meeting.wait()
            total = sent[0] + sent[1]
            meeting.wait()
            return total

        part = slice(0, 2) if own == 0 else slice(2, None)
        return normalised(values[part], mask[part], add)

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(process, (0, 1)))
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_all_equal_rewards_make_no_gradient_and_no_nan(
    outcome: float, chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def same(path, number):
        return RolledPath(path.prompt_ids, path.ids, [0.0] * (len(path.ids) - 1) + [outcome], outcome)

    trainer = make_trainer(chatml_tokenizer, tmp_path, FixedRollouts(chatml_tokenizer, same))
    rollout = rollout_of(trainer)
    assert rollout["advantages"].abs().max() < 0.01
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, rollout)
    loss.backward()
    assert abs(loss.item()) < 0.01
    assert all(torch.isfinite(p.grad).all() for p in trainer.model.parameters())
    trainer.log(logs := {})
    assert logs["reward"] == outcome
    assert logs["kl"] == pytest.approx(0, abs=1e-6)
    assert "right" not in logs
    assert all(value is None or value == value for value in logs.values())


def test_empty_paths_have_no_loss_and_do_not_count(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def half_empty(path, number):
        return RolledPath(path.prompt_ids, [], [], 0.0) if number % 2 else path

    trainer = make_trainer(chatml_tokenizer, tmp_path, FixedRollouts(chatml_tokenizer, half_empty), beta=0.3)
    shift_policy(trainer)
    rollout = rollout_of(trainer)
    mask = loss_mask(rollout)
    assert not mask[1::2].any()
    assert mask[::2].any(dim=1).all()
    advantages = rollout["advantages"]
    assert (advantages[1::2] == 0).all()
    assert advantages[mask].mean().item() == pytest.approx(0, abs=1e-5)
    assert advantages[mask].std(correction=0).item() == pytest.approx(1, abs=1e-5)

    trainer = make_trainer(
        chatml_tokenizer, tmp_path, FixedRollouts(chatml_tokenizer, lambda p, n: RolledPath(p.prompt_ids, [], [], 0.0))
    )
    loss = trainer.compute_loss(trainer.model, rollout_of(trainer))
    assert loss.item() == 0


def test_an_adapters_reference_is_the_model_without_it(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(chatml_tokenizer, tmp_path, beta=0.3, peft_config=lora_config(4))
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter += 0.05
    rollout = rollout_of(trainer)
    base = tiny_model(vocab_size=len(chatml_tokenizer))
    policy = trainer.accelerator.unwrap_model(trainer.model)
    with torch.no_grad():
        old = [logps_of(policy, path) for path in trainer._paths]
        reference = [logps_of(base, path) for path in trainer._paths]
    by_hand = advantages_by_hand(trainer._paths, old, reference, 0.3)
    assert max(float((o - r).abs().max()) for o, r in zip(old, reference, strict=True)) > 0.01
    for row, values in enumerate(by_hand):
        torch.testing.assert_close(
            rollout["advantages"][row, : len(values)], torch.tensor(values), atol=1e-4, rtol=1e-3
        )


def test_every_rollout_has_a_seed_and_its_questions_once(
    chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    asked = []

    class Watching(FixedRollouts):
        def __call__(self, model, rows, paths, *, seed):
            asked.append((seed, [row["prompt"] for row in rows], paths, model))
            return super().__call__(model, rows, paths, seed=seed)

    trainer = make_trainer(chatml_tokenizer, tmp_path, Watching(chatml_tokenizer), max_steps=3)
    trainer.train()
    assert len({seed for seed, *_ in asked}) == 3
    for _, prompts, paths, model in asked:
        assert len(set(prompts)) == 2
        assert paths == [4, 4]
        assert model is asked[0][3]
    asked.clear()
    trainer.state.global_step = 1
    rollout_of(trainer)
    seed = asked[0][0]
    again = make_trainer(chatml_tokenizer, tmp_path, Watching(chatml_tokenizer))
    again.state.global_step = 1
    rollout_of(again)
    assert asked[-1][0] == seed


def test_several_passes_over_a_rollout_are_clipped(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Four steps on two rollouts: the first pass over each has ratios of 1, the second those of the step between."""
    rollouts = FixedRollouts(chatml_tokenizer)
    trainer = make_trainer(
        chatml_tokenizer, tmp_path, rollouts, num_iterations=2, max_steps=4, learning_rate=0.05, logging_steps=1
    )
    trainer.train()
    assert len(set(rollouts.seeds)) == len(rollouts.seeds) == 2
    clipped = [entry["clip_ratio/region_mean"] for entry in trainer.state.log_history if "loss" in entry]
    assert clipped[0] == clipped[2] == 0
    assert min(clipped[1], clipped[3]) > 0.05


def test_settings_that_do_not_fit_are_refused(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="loss_type 'vespo'"):
        make_trainer(chatml_tokenizer, tmp_path, loss_type="vespo")
    with pytest.raises(InputError, match="must be token"):
        make_trainer(chatml_tokenizer, tmp_path, importance_sampling_level="sequence")
    args = make_trainer(chatml_tokenizer, tmp_path).args
    args.num_generations = 3  # as with several processes, which TRL counts together
    with pytest.raises(InputError, match=r"steps_per_generation \(8\) must be a multiple of num_generations \(3\)"):
        check_reinforce(args)
    args.num_generations, args.eval_strategy, args.num_generations_eval = 4, "steps", 3
    with pytest.raises(InputError, match=r"per_device_eval_batch_size \(8\) must be a multiple of the 3 paths"):
        check_reinforce(args)
    with pytest.raises(ValueError, match="1 rewards for a path of 2 tokens"):
        RolledPath([1], [2, 3], [0.0], 0.0)


@pytest.fixture(scope="module")
def trained(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders with model and log, by the number of processes."""
    folders = {processes: tmp_path_factory.mktemp(f"reinforce-by-{processes}") for processes in (1, 2)}
    for processes, folder in folders.items():
        chatml_tokenizer.save_pretrained(folder / "tokenizer")
        tiny_model(vocab_size=len(chatml_tokenizer)).save_pretrained(folder / "reference")
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        result = subprocess.run(
            [sys.executable, *start, str(SCRIPT), str(8 // processes), str(folder)],
            env={**environment(), "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
    return folders


def test_two_processes_take_the_steps_of_one(trained: dict[int, Path]) -> None:
    one, two = (torch.load(trained[processes] / "model.pt") for processes in (1, 2))
    for name, parameter in one.items():
        torch.testing.assert_close(two[name], parameter, atol=1e-5, rtol=1e-5)


def test_two_processes_log_the_numbers_of_one(trained: dict[int, Path]) -> None:
    one, two = (json.loads((trained[processes] / "log.json").read_text()) for processes in (1, 2))
    assert [entry["step"] for entry in one] == [1, 2, 2]
    names = ["reward", "right", "answered", "steps/next_step", "kl", "return/mean", "return/std", "loss", "grad_norm"]
    for entry, expected in zip(two[:2], one[:2], strict=True):
        for name in names:
            assert entry[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
    assert one[1]["kl"] != pytest.approx(0, abs=1e-4)
