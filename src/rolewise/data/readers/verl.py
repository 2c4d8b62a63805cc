"""verl's records for reinforcement learning, used by ToolRL's data: a prompt and the ground truth for the reward."""

from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.readers.messages import read_messages

PLACEHOLDERS = "The answers in verl's records are references for rewards: their thoughts may be placeholders."


def from_verl(record: dict[str, Any], source: str) -> Conversation:
    """Read `prompt` (messages) and `reward_model`, whose `ground_truth`, a text, becomes the assistant's turn."""
    messages, notes = read_messages(record["prompt"], source, "prompt")
    reward = record["reward_model"]
    truth = reward.get("ground_truth") if isinstance(reward, dict) else None
    if not isinstance(truth, str):
        raise InputError(f"{source}: `reward_model` has no text `ground_truth`, so nothing answers the prompt")
    messages.append({"role": "assistant", "content": truth})
    return Conversation(messages, source=source, notes=(*notes, PLACEHOLDERS))
