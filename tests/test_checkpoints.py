"""Which checkpoints can be trusted, and when they are written."""

import io
from pathlib import Path

import pytest
import torch
from grpo_rollouts import make_trainer, prompts
from transformers import PreTrainedTokenizerFast, TrainerCallback

from rolewise.training.checkpoints import last_checkpoint, train_to_end


def random_state() -> bytes:
    """As Transformers saves one."""
    buffer = io.BytesIO()
    torch.save({"cpu": torch.random.get_rng_state()}, buffer)
    return buffer.getvalue()


def write_checkpoint(directory: Path, step: int, states: dict[str, bytes]) -> None:
    checkpoint = directory / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text(f'{{"global_step": {step}}}', encoding="utf-8")
    for name, content in states.items():
        (checkpoint / name).write_bytes(content)


WHOLE = random_state()
OF_TWO = {"rng_state_0.pth": WHOLE, "rng_state_1.pth": WHOLE}


@pytest.mark.parametrize(
    ("processes", "states", "is_trusted"),
    [
        (1, {"rng_state.pth": WHOLE}, True),
        (1, {}, False),
        (1, {"rng_state.pth": b""}, False),
        (1, {"rng_state.pth": WHOLE[: len(WHOLE) // 2]}, False),
        (1, {"rng_state.pth": WHOLE[:-1]}, False),
        (1, OF_TWO, False),
        (2, OF_TWO, True),
        (2, {"rng_state_0.pth": WHOLE}, False),
        (2, {**OF_TWO, "rng_state_1.pth": WHOLE[: len(WHOLE) // 2]}, False),
        (2, {"rng_state.pth": WHOLE}, False),
    ],
)
def test_a_checkpoint_without_every_process_s_random_numbers_is_passed_over(
    processes: int, states: dict[str, bytes], is_trusted: bool, tmp_path: Path
) -> None:
    before = {"rng_state.pth": WHOLE} if processes == 1 else OF_TWO
    write_checkpoint(tmp_path, 2, before)
    write_checkpoint(tmp_path, 10, states)
    found = last_checkpoint(tmp_path, processes)
    assert found == str(tmp_path / f"checkpoint-{10 if is_trusted else 2}")


def test_without_a_whole_checkpoint_training_begins_anew(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2, {"rng_state.pth": WHOLE})
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2', encoding="utf-8")
    (tmp_path / "checkpoint-last").mkdir()
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("per_generation", "iterations", "accumulated", "save_steps", "questions", "saved"),
    [
        (1, 1, 1, 2, 8, [2, 4, 6]),  # a rollout to a step
        (2, 2, 1, 3, 8, [4, 6]),  # a rollout to four steps; the last step ends all
        (3, 1, 2, 1, 12, [3, 6]),  # two rollouts to three steps
        (2, 1, 3, 1, 12, [2, 4, 6]),  # three rollouts to two steps
        (3, 1, 2, 1, 3, [2, 4, 6]),  # a rollout to an epoch, whose second step is a short one
    ],
)
def test_a_checkpoint_waits_for_the_end_of_a_rollout(
    per_generation: int,
    iterations: int,
    accumulated: int,
    save_steps: int,
    questions: int,
    saved: list[int],
    chatml_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    options = {"per_device_train_batch_size": 4, "num_iterations": iterations, "steps_per_generation": per_generation}
    options |= {"gradient_accumulation_steps": accumulated, "save_steps": save_steps, "max_steps": 6}
    trainer = make_trainer(chatml_tokenizer, tmp_path, train_dataset=prompts(questions), **options)
    steps = []

    class Saved(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    trainer.add_callback(Saved())
    train_to_end(trainer, None)
    assert steps == saved
