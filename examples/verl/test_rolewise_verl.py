"""The recipe within verl's own config, queue, advantages and loss, against the weighted loss by hand.

Run it where verl is: `python -m pytest examples/verl`. Elsewhere only the recipe's imports are looked at.
Shapes: B responses, T tokens of the longest one.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.weighting import ResT, ResTOfficial

HERE = Path(__file__).parent
RECIPE = HERE / "rolewise_verl.py"
PARTITION = "train"
STEP, STEPS = 2, 5
"""The training step, counted from 1 as verl does, and their number."""


def call(place):
    """The parts of a response that asks for the weather somewhere."""
    return [
        ("<think>", Region.TAG),
        (f" in {place} ", Region.THINK),
        ("</think>", Region.TAG),
        ("\n", Region.OTHER),
        ("<tool_call>", Region.TAG),
        ('\n{"name": "', Region.OTHER),
        ("get_weather", Region.TOOL_NAME),
        ('", "arguments": ', Region.OTHER),
        ('{"', Region.ARGUMENTS),
        ("city", Region.ARGUMENT_NAME),
        ('": "', Region.ARGUMENTS),
        (place, Region.ARGUMENT_VALUE),
        ('"}', Region.ARGUMENTS),
        ("}\n", Region.OTHER),
        ("</tool_call>", Region.TAG),
    ]


ENVIRONMENT = None
"""In place of a region: what the policy did not write."""
ROLLOUT = [
    [*call("Paris"), ("<result>18</result>", ENVIRONMENT), ("<think>", Region.TAG), (" warm", Region.THINK)],
    [("No call at all.", Region.OTHER)],
    call("Rome"),
    [("in Rome", Region.THINK)],  # its prompt opened the thought
]
PROMPTS = ["Where?", "Where?", "And how is Rome?", "And how is Rome?<think>"]
REWARDS = [1.0, 0.0, 0.25, 2.0]


def texts():
    return ["".join(part for part, _ in parts) for parts in ROLLOUT]


def regions():
    """Of every token, which is a byte."""
    return [[region for part, region in parts for _ in part] for parts in ROLLOUT]


def weights_by_hand(weight_of, counted=None):
    """Mean 1 over each response's tokens with weight, then over all tokens that count; 0 where none counts."""
    rows = []
    for number, of_row in enumerate(regions()):
        kept = [
            region is not ENVIRONMENT and (counted is None or counted[number][t]) for t, region in enumerate(of_row)
        ]
        raw = [weight_of.get(region, 0.0) if keep else 0.0 for region, keep in zip(of_row, kept, strict=True)]
        positive = [weight for weight in raw if weight]
        mean = sum(positive) / len(positive) if positive else 1.0
        rows.append(([weight / mean for weight in raw], kept))
    total = sum(sum(row) for row, _ in rows)
    tokens = sum(sum(kept) for _, kept in rows)
    return [[weight * tokens / total for weight in row] for row, _ in rows]


def plain_advantages():
    """GRPO's, of every response, by its formula."""
    found = []
    for number, reward in enumerate(REWARDS):
        group = torch.tensor(REWARDS[number // 2 * 2 :][:2])
        found.append(float((reward - group.mean()) / (group.std() + 1e-6)))
    return found


def test_what_the_recipe_imports_of_rolewise_needs_neither_trl_nor_transformers():
    imports = [
        ast.unparse(node)
        for node in ast.parse(RECIPE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("rolewise")
    ]
    assert imports
    code = "\n".join([*imports, "import sys", "print(*sys.modules)"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert {"trl", "transformers", "datasets", "accelerate", "peft"}.isdisjoint(result.stdout.split())


@pytest.fixture(scope="module")
def queue():
    """TransferQueue of verl's, which was told of the recipe as a user tells it."""
    for package in ("verl", "transfer_queue"):
        if package in sys.modules:
            pytest.skip(f"{package} was imported before it could be told of the recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERL_USE_EXTERNAL_MODULES", RECIPE.stem)
        patch.syspath_prepend(str(HERE))
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")  # for ray's processes
        pytest.importorskip("verl", reason="verl is not installed: pip install 'verl[verl-core]==0.9.1'")
        tq = pytest.importorskip("transfer_queue", reason="TransferQueue is not installed, which verl's trainer needs")
        import ray

        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        tq.init()
        yield tq
        tq.close()
        ray.shutdown()


def make_trainer(*words):
    """What verl makes of its own defaults and a command line's words, as its task runner does."""
    from hydra import compose, initialize_config_module
    from verl.trainer.ppo.v1 import get_trainer_cls

    words = [*words, "trainer.v1.trainer_mode=rolewise", "algorithm.adv_estimator=grpo"]
    words += ["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2", "actor_rollout_ref.rollout.n=2"]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=words)
    trainer = get_trainer_cls(config.trainer.v1.trainer_mode)(config)
    trainer.tokenizer = bytes_tokenizer()
    trainer.global_steps, trainer.total_training_steps = STEP, STEPS  # which need workers to be set by themselves
    return trainer


def bytes_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def put_rollout(queue, tokenizer, *, entropy=None, counted=None):
    """The rollout as verl's agent loop and forward passes leave it in the queue; its keys and old log-probabilities."""
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    generator = torch.Generator().manual_seed(0)
    rows = []
    for number, (text, of_row) in enumerate(zip(texts(), regions(), strict=True)):
        own = torch.tensor([region is not ENVIRONMENT for region in of_row]).long()
        row = {
            "uid": f"prompt{number // 2}",
            "prompts": torch.tensor(tokenizer(PROMPTS[number])["input_ids"]),
            "responses": torch.tensor(tokenizer(text)["input_ids"]),
            "loss_mask": own,
            "response_mask": own if counted is None else own * torch.tensor(counted[number]).long(),
            "rm_scores": torch.tensor([0.0] * (len(text) - 1) + [REWARDS[number]]),
            "old_log_probs": -torch.rand(len(text), generator=generator) - 0.5,
        }
        assert len(row["responses"]) == len(text)
        if entropy is not None:
            row["entropy"] = torch.tensor([entropy.get(region, 0.0) for region in of_row])
        rows.append(row)
    keys = [f"prompt{number // 2}_{number % 2}_0" for number in range(len(rows))]
    queue.kv_clear(keys=keys, partition_id=PARTITION)
    tags = [{"status": "success", "number": number} for number in range(len(rows))]
    return queue.kv_batch_put(keys=keys, partition_id=PARTITION, fields=list_of_dict_to_tensordict(rows), tags=tags)


def field(queue, batch, name):
    return queue.kv_batch_get(keys=batch.keys, partition_id=PARTITION, select_fields=[name])[name]


def assert_weighted(advantages, weights):
    for found, plain, row in zip(advantages.unbind(), plain_advantages(), weights, strict=True):
        torch.testing.assert_close(found, plain * torch.tensor(row), rtol=1e-5, atol=1e-6)


def test_all_else_is_the_synchronous_trainer(queue):
    from verl.trainer.ppo.v1 import PPOTrainerSync
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    trainer = make_trainer()
    assert isinstance(trainer, PPOTrainerSync)
    assert trainer.trainer_mode == "sync"
    assert type(trainer.replay_buffer) is ReplayBuffer  # the asynchronous trainers have another
    assert type(trainer.weighting) is ResT


@pytest.mark.parametrize(("name", "weighting"), [("rest", ResT), ("rest-official", ResTOfficial)])
def test_every_advantage_is_weighted_by_its_tokens_region(queue, name, weighting):
    trainer = make_trainer(f"+trainer.v1.rolewise.weighting={name}", "+trainer.v1.rolewise.call_format=rlla")
    batch = put_rollout(queue, trainer.tokenizer)
    metrics = {}
    weighed = trainer._compute_advantage(batch, metrics)
    assert (weighed.keys, weighed.tags) == (batch.keys, batch.tags)
    weights = weights_by_hand(weighting().code_weights(STEP - 1, STEPS))
    assert_weighted(field(queue, batch, "advantages"), weights)
    for found, plain in zip(field(queue, batch, "returns").unbind(), plain_advantages(), strict=True):
        assert float(found[0]) == pytest.approx(plain, abs=1e-6)  # a critic learns what verl would have it learn

    own = [(r, w) for of_row, row in zip(regions(), weights, strict=True) for r, w in zip(of_row, row, strict=True)]
    own = [(region, weight) for region, weight in own if region is not ENVIRONMENT]
    names = [weight for region, weight in own if region == Region.TOOL_NAME]
    assert metrics["rolewise/share/tool_name"] == pytest.approx(len(names) / len(own))
    assert metrics["rolewise/weight/tool_name"] == pytest.approx(sum(names) / len(names), rel=1e-5)


def test_weights_by_entropy(queue):
    entropy = {region: 0.1 * number for number, region in enumerate(Region, start=1)}
    trainer = make_trainer("+trainer.v1.rolewise.weighting=rest-entropy")
    batch = put_rollout(queue, trainer.tokenizer, entropy=entropy)
    metrics = {}
    trainer._compute_advantage(batch, metrics)
    present = {region: entropy[region] for of_row in regions() for region in of_row if region is not ENVIRONMENT}
    assert_weighted(
        field(queue, batch, "advantages"),
        weights_by_hand(trainer.weighting.code_weights(STEP - 1, STEPS, present)),
    )
    assert metrics["rolewise/entropy/think"] == pytest.approx(entropy[Region.THINK])
    with pytest.raises(InputError, match="bypass_mode"):
        trainer._compute_advantage(put_rollout(queue, trainer.tokenizer), {})


def test_tokens_that_verl_took_out_of_the_loss_are_read_but_do_not_count(queue):
    counted = [[place % 3 > 0 for place, _ in enumerate(text)] for text in texts()]
    counted[1] = [False] * len(counted[1])
    trainer = make_trainer()
    batch = put_rollout(queue, trainer.tokenizer, counted=counted)
    trainer._compute_advantage(batch, {})
    weights = weights_by_hand(ResT().code_weights(STEP - 1, STEPS), counted)
    assert_weighted(field(queue, batch, "advantages"), weights)


@pytest.mark.parametrize("rows_at_once", [4, 1])
def test_verls_loss_becomes_the_weighted_mean_of_the_clipped_loss(queue, rows_at_once):
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.utils.losses import ppo_loss

    trainer = make_trainer("actor_rollout_ref.actor.clip_ratio_c=1.5")
    batch = put_rollout(queue, trainer.tokenizer)
    trainer._compute_advantage(batch, {})
    mask, old = field(queue, batch, "response_mask"), field(queue, batch, "old_log_probs").unbind()
    actor = omega_conf_to_dataclass(trainer.config.actor_rollout_ref.actor)
    generator = torch.Generator().manual_seed(1)
    logps = [(row + 0.8 * torch.randn(len(row), generator=generator)).requires_grad_() for row in old]

    found = 0.0
    names = ["prompts", "responses", "response_mask", "old_log_probs", "advantages"]
    for start in range(0, len(logps), rows_at_once):
        keys = batch.keys[start : start + rows_at_once]
        part = queue.kv_batch_get(keys=keys, partition_id=PARTITION, select_fields=names)
        tu.assign_non_tensor(part, dp_size=1, batch_num_tokens=int(mask.sum()), global_batch_size=len(logps))
        # The model gives a number for every place, prompts included, each for the token behind it.
        rows = zip(part["prompts"].unbind(), logps[start : start + rows_at_once], strict=True)
        shifted = [torch.cat([torch.zeros(len(prompt) - 1), row, torch.zeros(1)]) for prompt, row in rows]
        output = {"log_probs": torch.nested.as_nested_tensor(shifted, layout=torch.jagged)}
        found = found + ppo_loss(actor, output, part)[0]

    weights = weights_by_hand(ResT().code_weights(STEP - 1, STEPS))
    by_hand = 0.0
    for row, advantage in enumerate(plain_advantages()):
        for place, weight in enumerate(weights[row]):
            ratio = (logps[row][place] - old[row][place]).exp()
            loss = torch.maximum(-ratio * advantage, -ratio.clamp(0.8, 1.2) * advantage)
            if advantage < 0:
                loss = torch.minimum(loss, torch.tensor(-1.5 * advantage))
            by_hand = by_hand + weight * loss
    by_hand = by_hand / sum(weight for row in weights for weight in row)
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-5)
    expected = torch.autograd.grad(by_hand, logps, retain_graph=True)
    for gradient, of_row in zip(torch.autograd.grad(found, logps), expected, strict=True):
        torch.testing.assert_close(gradient, of_row, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("word", "said"),
    [("weighting=best", "best"), ("call_format=json", "call_format 'json'"), ("weigting=rest", "has no weigting")],
)
def test_options_that_are_not_known_are_refused(queue, word, said):
    with pytest.raises(InputError, match=said):
        make_trainer(f"+trainer.v1.rolewise.{word}")
