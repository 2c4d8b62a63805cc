"""Seeded tool-use conversations over made-up APIs, with the known true role of every character.

The rules of truth, against which labellers are measured:

1. Layout is `Role.FORMAT`: tags, labels such as `Thought:`, JSON punctuation, the structural keys `name`, `parameters`
   and `arguments`, the signs of made-up formats, line breaks.
2. Text filled into stock phrases and into calls follows from the input (system prompt, query, tool results): tool
   names, argument keys, argument values, words and whole requests quoted from the query, numbers of a calculation,
   results. It is `Role.REASONING` the first time that the assistant writes it as a whole (as a whole word or words,
   case-sensitive). Every later time, in the same turn or a later one, it is a copy of earlier output:
   `Role.TEMPLATE`. So a value in a quoted request is reasoning there and a copy in the call.
3. Operators and the equals sign of a calculation are `Role.REASONING`: the operation follows from the query.
4. Everything else is stock phrase: `Role.TEMPLATE`, including periods. The choice of the phrase, its presence, and the
   choice among the format's branches are not marked, even if the query decides them.
5. In prose a space belongs to the text after it, as in byte-pair tokens: " Lake" is wholly inside its value's span.
   The spaces of JSON and line breaks belong to the layout.

The system prompt lists the tools as text, so `Conversation.tools` is None and no message has `tool_calls`: rendering
adds nothing to the text for which the roles were written. Deliberately left out: free text about the tools, whose truth
would be a matter of opinion, and calls that fail. `splits` says how the splits differ, and what each is for.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.generator.arguments import Split, Value
from rolewise.generator.build import Call, ConversationBuilder
from rolewise.generator.output_formats import FORMATS, MADE_UP_FORMATS, OutputFormat
from rolewise.generator.splits import SPLITS, SplitData

__all__ = ["FORMATS", "MADE_UP_FORMATS", "GeneratedConversation", "generate", "reference_calls"]


@dataclass(frozen=True)
class GeneratedConversation(Conversation):
    """A conversation with known right calls.

    Attributes:
        calls: per assistant turn, its reference calls `{"name", "arguments"}`; empty for a turn that answers.
        derivations: the derivation of each argument from the query, in the order of the calls.
    """

    calls: list[list[Call]] = field(default_factory=list, repr=False)
    derivations: list[Value] = field(default_factory=list, repr=False)


def generate(
    count: int, *, seed: int, split: Split = "train", formats: Sequence[str] | None = None
) -> list[Conversation]:
    """Write `count` conversations, taking the `formats` in turn (None: the split's own); no two have the same query.

    The same arguments return the same conversations on every machine, and a larger `count` continues a smaller one.
    The splits share no API, stock phrase, name, title or code. In `hard`, words of boilerplate are often rare, words of
    reasoning are often frequent, and two of the three formats are unknown to rules (`minutes`, `cards`): counting and
    the regex tell little there. Each conversation is a `GeneratedConversation`.

    Raises:
        InputError: for a negative count, an unknown split or format, or no format.
    """
    if count < 0:
        raise InputError(f"count is {count}; request 0 conversations or more")
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
    formats = SPLITS[split].formats if formats is None else formats
    known = FORMATS | MADE_UP_FORMATS
    if not formats or not all(name in known for name in formats):
        raise InputError(f"formats {list(formats)!r}: expected one or more of {', '.join(known)}")
    conversations: list[Conversation] = []
    queries: set[str] = set()
    for number in range(count):
        conversation = _fresh(
            f"generator:{split}:seed{seed}:{number}", SPLITS[split], known[formats[number % len(formats)]], queries
        )
        queries.add(conversation.messages[1]["content"])
        conversations.append(conversation)
    return conversations


def reference_calls(conversation: Conversation) -> list[list[Call]]:
    """Return the right calls of each assistant turn, `{"name", "arguments"}`; an empty list for a turn that answers.

    Raises:
        InputError: for a conversation not written by the generator.
    """
    if not isinstance(conversation, GeneratedConversation):
        raise InputError(f"{conversation.source}: only generated conversations have reference calls")
    return conversation.calls


def _fresh(source: str, split: SplitData, output_format: OutputFormat, taken: set[str]) -> GeneratedConversation:
    """Return the first draw whose values can be told apart and whose query is not `taken`."""
    for attempt in itertools.count():
        # Seeding with a string hashes it with SHA-512: the same on every machine and version.
        draft = ConversationBuilder(Random(f"{source}:{attempt}"), split, output_format).build()
        if draft and draft.messages[1]["content"] not in taken:
            return GeneratedConversation(
                messages=draft.messages,
                source=source,
                role_spans=draft.role_spans,
                calls=draft.calls,
                derivations=draft.derivations,
            )
    raise AssertionError("unreachable: the count above has no end")
