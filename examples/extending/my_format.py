"""A format of one's own: `{"question": …, "steps": […], "answer": …}`, worked solutions step by step.

    rolewise label --plugin examples/extending/my_format.py --data solutions.jsonl --model MODEL --output labelled

Records with these three keys are recognised by looking; `--format steps` says so outright.
"""

from typing import Any

from rolewise import Conversation, Format, InputError, register_format


def convert(record: dict[str, Any], source: str) -> Conversation:
    """One question, one answer: the steps a line each, then the result.

    Raises:
        InputError: naming `source` (file and record), for parts that are missing or no text.
    """
    question, steps, answer = record["question"], record["steps"], record["answer"]
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"{source}: `question` must be text that asks something")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise InputError(f"{source}: `steps` must be a list of texts")
    if not isinstance(answer, str | int | float):
        raise InputError(f"{source}: `answer` must be text or a number, found {type(answer).__name__}")
    turns = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "\n".join([*steps, f"Answer: {answer}"])},
    ]
    return Conversation(turns, source=source)


register_format(Format("steps", [("question", "steps", "answer")], convert))
