"""The record formats by name, and the registration of a user's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.data.conversation import Conversation
from rolewise.data.readers.glaive import from_glaive
from rolewise.data.readers.instructions import from_alpaca, from_question_answer, from_self_instruct
from rolewise.data.readers.messages import from_messages, from_prompt_completion, from_trajectory
from rolewise.data.readers.sharegpt import from_sharegpt
from rolewise.data.readers.verl import from_verl
from rolewise.data.readers.xlam import from_xlam


@dataclass(frozen=True)
class Format:
    """A record format.

    Attributes:
        name: value for `--format`.
        keys: sets of keys; a record with all keys of any one set is read as this format.
        convert: (record, source) → conversation. `source` names file and record; begin with it the message of the
            `InputError` for an unusable record.
    """

    name: str
    keys: Sequence[Sequence[str]]
    convert: Callable[[dict[str, Any], str], Conversation]

    def recognises(self, record: dict[str, Any]) -> bool:
        return any(all(key in record for key in keys) for keys in self.keys)

    def shown_keys(self) -> str:
        return " or ".join(", ".join(keys) for keys in self.keys)


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("messages", [("messages",)], from_messages),
        Format("sharegpt", [("conversations",)], from_sharegpt),
        Format("glaive", [("system", "chat")], from_glaive),
        Format("xlam", [("query", "tools", "answers")], from_xlam),
        Format("prompt-completion", [("prompt", "completion")], from_prompt_completion),
        Format("verl", [("prompt", "reward_model")], from_verl),
        Format("trajectory", [("traj",)], from_trajectory),
        Format("alpaca", [("instruction", "output"), ("instruction", "response")], from_alpaca),
        Format("self-instruct", [("instruction", "instances")], from_self_instruct),
        Format(
            "question-answer",
            [("problem", "solution"), ("question", "solution"), ("question", "answer")],
            from_question_answer,
        ),
    )
}
"""The formats by name, in the order of trying them."""


def register_format(format: Format) -> None:
    """Add a format, tried before all others. It replaces a format of the same name.

    Pass the file with this code as `--plugin my_format.py`:

        from rolewise.data import Conversation, Format, register_format

        def convert(record, source):
            turns = [{"role": "user", "content": record["ask"]}, {"role": "assistant", "content": record["say"]}]
            return Conversation(turns, source=source)

        register_format(Format("ask-say", [("ask", "say")], convert))
    """
    others = {name: entry for name, entry in FORMATS.items() if name != format.name}
    FORMATS.clear()
    FORMATS.update({format.name: format, **others})


_NOT_CONVERSATIONS = (
    (("chosen", "rejected"), "preference pairs; keep the chosen answer of each as `completion`"),
    (("prompt",), "prompts without completions, so there is nothing to train on"),
    (("input_ids",), "token ids, not conversations; a labelled data set is for `rolewise sft`"),
    (("question", "function"), "questions with tools but without answers, an evaluation set"),
    (("question", "involved_classes"), "questions without answers, an evaluation set"),
    (("ground_truth",), "expected answers without their questions"),
    (("name", "description", "parameters"), "definitions of tools, not conversations"),
    (("query", "api_list"), "queries with tools but without answers"),
    (("query", "calling"), "queries and expected calls without the available tools"),
    (("messages_display",), "transcripts for display, in which calls are left out"),
    (("question_id", "turns"), "questions without answers, an evaluation set"),
    (
        ("system", "user", "answer"),
        "expected answers of an evaluation, not an assistant's; if they are, rename `user` to `prompt` and `answer` "
        "to `completion`",
    ),
)
"""Common kinds of files that hold no conversations, by their keys."""


def why_unknown(records: Sequence[dict[str, Any]]) -> str:
    """Return the reason for not reading records of an unknown format."""
    for keys, reason in _NOT_CONVERSATIONS:
        if all(all(key in record for key in keys) for record in records):
            return f"the records (with {', '.join(keys)}) are {reason}"
    seen = sorted({str(key) for record in records for key in record})
    known = "; ".join(f"{entry.name} ({entry.shown_keys()})" for entry in FORMATS.values())
    return f"unknown format with the keys {', '.join(seen) or 'none'}; known formats: {known}"
