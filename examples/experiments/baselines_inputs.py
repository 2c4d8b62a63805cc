"""What baselines.yaml and baselines_small.yaml read: conversations whose true roles and calls are known, and chat.

python examples/experiments/baselines_inputs.py CHAT [FOLDER] [--train 24] [--held-out 12]

CHAT is general chat without tools in any format that rolewise reads; our results used the 1,100 short instructions of
the book "Build a Large Language Model (From Scratch)" (rasbt/LLMs-from-scratch, ch07, instruction-data.json). Its first
conversations are mixed into the training, one to three with tools. The next, at most as many as those with tools,
become preference pairs for RewardFT: a question's own answer is preferred to another question's. That is a weak
stand-in for preference data, so give a real set its place where there is one.
"""

import argparse
import json
from pathlib import Path

from rolewise import InputError, generate, read_conversations, write_conversations
from rolewise.core.files import write_text
from rolewise.jobs.demo_model import fetch_demo_model

KNOWN, NEW = ("rlla", "hermes"), ("react",)
"""Output formats of the training, and one that the model first meets in a system prompt when it is tested."""


def write_inputs(chat_source: str, folder: Path, train: int, held_out: int) -> None:
    """Write everything into a folder.

    Raises:
        InputError: if the chat can't be read, or the model can't be had.
    """
    general = train // 3
    chat = read_conversations(chat_source, limit=general + train).conversations

    # Held in: the training's tools, phrases and formats, other queries. One call, since no two of its queries are the
    # same.
    conversations = generate(train + held_out, seed=0, split="train", formats=KNOWN)
    write_conversations(conversations[:train], folder / "train.jsonl")
    write_conversations(conversations[train:], folder / "held-in.jsonl")
    # Held out: the evaluation split shares no tool, phrase or value with the other. The same tasks in known formats and
    # in a new one: what the two sets differ by is the format.
    write_conversations(generate(held_out, seed=0, split="eval", formats=KNOWN), folder / "new-tools.jsonl")
    write_conversations(generate(held_out, seed=0, split="eval", formats=NEW), folder / "new-format.jsonl")

    write_conversations(chat[:general], folder / "chat.jsonl")
    pairs = chat[general:]
    rows = [
        {"prompt": own.messages[:-1], "chosen": own.messages[-1:], "rejected": other.messages[-1:]}
        for own, other in zip(pairs, [*pairs[1:], *pairs[:1]], strict=True)
    ]
    write_text(folder / "preferences.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    model = Path(fetch_demo_model(folder / "model"))
    if model != folder / "model" and not (folder / "model").exists():  # the hub keeps it in its own cache
        (folder / "model").symlink_to(model.resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chat", metavar="CHAT")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path("runs/baselines-small-inputs"))
    parser.add_argument("--train", type=int, default=24, help="conversations with tools to train on")
    parser.add_argument("--held-out", type=int, default=12, help="conversations in each held-out set")
    arguments = parser.parse_args()
    try:
        write_inputs(arguments.chat, arguments.folder, arguments.train, arguments.held_out)
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
