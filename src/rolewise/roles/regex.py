"""Roles assigned by rules: the format tokens of tool calls and of ReAct.

These are the labels of the Regex baseline and the reference for judging SHAD (arXiv 2412.14780, appendix D.2). A rule
applies only if the text leaves no doubt: stock phrases, argument names and copied values are not format here, although
much of that is boilerplate too.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rolewise.core.role import Role
from rolewise.data.conversation import RoleSpan
from rolewise.data.spans import project
from rolewise.roles.json_format import scan_json, skip_space

CALL_TAGS = ("function_call", "functioncall", "tool_call", "tool_calls")
"""Tags with JSON calls inside."""

TAGS = (
    *CALL_TAGS,
    *("action", "answer", "final_answer", "information", "observation", "plan", "reasoning", "reflection", "response"),
    *("result", "scratchpad", "search", "solution", "think", "thinking", "thought", "tool_response", "tools"),
)
"""All known tags; other words in angle brackets may be anything."""

CALL_MARKERS = ("[TOOL_CALLS]", "<|python_tag|>")
"""Markers of Mistral's and Llama's templates, followed by JSON calls, without a closing form."""

FIELDS_WITH_JSON = ("Action", "Action Input")
"""Fields that may be written as JSON: a whole call, or its arguments."""

JSON_OPENERS = ("{", "[")
"""Openers of an object or an array; a bare string or number is not a call."""

FIELDS = ("Thought", "Action", "Action Input", "Observation", "Final Answer")
"""ReAct's field labels, at the start of a line, numbered or not."""

_LANDMARK = re.compile(
    rf"(?P<tag><(?P<slash>/?)(?P<name>{'|'.join(TAGS)})>)"
    rf"|(?P<marker>{'|'.join(map(re.escape, CALL_MARKERS))})"
    rf"|^[ \t]*(?P<field>(?P<label>{'|'.join(FIELDS)})(?:[ ]\d+)?[ \t]*:)"
    r"|^[ \t]*(?P<opener>[{\[])",
    re.MULTILINE,
)
# Templates' end-of-turn tokens; searched only in a turn's last characters.
_TURN_END = re.compile(r"(?:<[|｜][\w▁]+[|｜]>|</s>|<end_of_turn>|<eos>)\s*\Z")
_TURN_END_REACH = 64
_LINE_IS_OVER = re.compile(r"[ \t,]*(?:\r?\n|\Z|<)")

CharSpan = tuple[int, int]


def format_spans(text: str) -> list[RoleSpan]:
    """Return the FORMAT characters of an assistant's text: in order, merged if they touch.

    These are known tags; ReAct's field labels; the end-of-turn token; and in JSON tool calls the punctuation, every
    string's quotes and the fixed keys. A JSON value counts as a call in a call tag's block, after a marker, as the
    arguments after `Action Input:`, or if it has its own lines (or an `Action:`) and a call's keys. Broken JSON is
    labelled up to the break. White space next to these belongs to them, as tokenizers join it to its neighbors. A tag
    that prose merely mentions (within a line and without a matching closing tag) is ignored.

    Any text is accepted; time is linear in its length.
    """
    tags: list[_Tag] = []
    pieces: list[CharSpan] = []
    in_call_block = False
    position = 0
    while match := _LANDMARK.search(text, position):
        position = match.end()
        if match["tag"]:
            tags.append(_Tag.read(match, previous=tags[-1] if tags else None))
            if match["name"] in CALL_TAGS:
                in_call_block = tags[-1].is_opening and tags[-1].stands_alone
        elif match["opener"]:
            position = match.start("opener")
        else:
            pieces.append(_with_space(text, *match.span("marker" if match["marker"] else "field")))
        expects_call = in_call_block or bool(match["marker"])
        if expects_call or match["opener"] or match["label"] in FIELDS_WITH_JSON:
            is_arguments = match["label"] == "Action Input"
            position, found = _json_values(
                text, position, call_level=not is_arguments, trusted=expects_call or is_arguments
            )
            pieces += found
    pieces += [_with_space(text, tag.start, tag.end) for tag in _tags_in_use(text, tags)]
    if turn_end := _TURN_END.search(text, max(0, len(text) - _TURN_END_REACH)):
        pieces.append(turn_end.span())
    return [RoleSpan(start, end, Role.FORMAT) for start, end in _merged(pieces)]


def label_format(
    text: str,
    char_start_T: npt.NDArray[np.int32],
    char_end_T: npt.NDArray[np.int32],
    turn_char_spans: Iterable[CharSpan],
) -> npt.NDArray[np.uint8]:
    """Return the two groups of the Regex baseline for a rendered sample's tokens.

    Args:
        text: the rendered conversation.
        char_start_T: int32 [T], each token's first character in `text`.
        char_end_T: int32 [T], one past each token's last character.
        turn_char_spans: (start, end) of the assistant's text that carries loss, in order, not overlapping.

    Returns:
        uint8 [T]: FORMAT for tokens wholly covered by `format_spans`, REASONING for a turn's other tokens, CONTEXT
        outside the turns.
    """
    turns = list(turn_char_spans)
    in_turn = [RoleSpan(start, end, Role.REASONING) for start, end in turns]
    roles_T = project(in_turn, char_start_T, char_end_T, default=Role.CONTEXT)
    spans = [
        RoleSpan(start + span.start, start + span.end, Role.FORMAT)
        for start, end in turns
        for span in format_spans(text[start:end])
    ]
    format_T = project(spans, char_start_T, char_end_T, default=Role.CONTEXT)
    return np.where(format_T == Role.FORMAT, format_T, roles_T)


def sure_format_mask(
    text: str,
    char_start_T: npt.NDArray[np.int32],
    char_end_T: npt.NDArray[np.int32],
    turn_char_spans: Iterable[CharSpan],
) -> npt.NDArray[np.bool_]:
    """Return the mask of tokens that are format beyond doubt, to measure another labeller's error rate on them.

    These are the FORMAT tokens of `label_format` except those of only white space: a line break beside a tag may
    equally belong to the text before it. Arguments as for `label_format`.

    Returns:
        bool [T].
    """
    roles_T = label_format(text, char_start_T, char_end_T, turn_char_spans)
    format_T: npt.NDArray[np.bool_] = np.equal(roles_T, Role.FORMAT)
    for index in np.flatnonzero(format_T):
        format_T[index] = not text[char_start_T[index] : char_end_T[index]].isspace()
    return format_T


@dataclass(frozen=True)
class _Tag:
    """A tag of `TAGS` in the text. It stands alone if it begins a line, follows another tag or precedes JSON."""

    name: str
    start: int
    end: int
    is_opening: bool
    stands_alone: bool

    @classmethod
    def read(cls, match: re.Match[str], previous: "_Tag | None") -> "_Tag":
        text, (start, end) = match.string, match.span("tag")
        line_or_tag = _space_before(text, start)
        behind = skip_space(text, end)
        stands_alone = (
            line_or_tag == 0
            or "\n" in text[line_or_tag:start]
            or (previous is not None and previous.end == line_or_tag)
            or (match["name"] in CALL_TAGS and text.startswith(JSON_OPENERS, behind))
        )
        return cls(match["name"], start, end, not match["slash"], stands_alone)


def _tags_in_use(text: str, tags: Iterable[_Tag]) -> list[_Tag]:
    """Return the tags without those that prose merely mentions.

    An opening tag is in use if it stands alone, or if the next tag of its name closes it with text between them. A
    closing tag is in use if it closes such a tag or stands alone, or if its name was never opened: then the prompt's
    template opened it.
    """
    in_use: list[_Tag] = []
    opened: dict[str, _Tag | None] = {}  # by name: the last unclosed opening tag
    for tag in tags:
        waiting = opened.get(tag.name)
        if tag.is_opening:
            if tag.stands_alone:
                in_use.append(tag)
            if tag.stands_alone or waiting is None or not waiting.stands_alone:
                opened[tag.name] = tag
            continue
        answers_prose = waiting is not None and not waiting.stands_alone
        if answers_prose and waiting is not None and text[waiting.end : tag.start].strip():
            in_use += [waiting, tag]
        elif not answers_prose and (waiting or tag.stands_alone or tag.name not in opened):
            in_use.append(tag)
        opened[tag.name] = None
    return in_use


def _json_values(text: str, position: int, *, call_level: bool, trusted: bool) -> tuple[int, list[CharSpan]]:
    """Scan consecutive JSON values from `position` on; return the end of the scan and the format characters.

    Unless `trusted`, a value counts only if it is complete, ends its line and has a call's keys. If it does not count,
    nothing in it is scanned again: the scan saw only strings and punctuation, and a second one would not be linear.
    """
    pieces: list[CharSpan] = []
    while text.startswith(JSON_OPENERS, start := skip_space(text, position)):
        scan = scan_json(text, start, call_level=call_level)
        position = scan.end
        if not trusted and not (scan.complete and scan.is_call and _LINE_IS_OVER.match(text, position)):
            break
        pieces += [_with_space(text, start, start), *scan.spans]
        if not scan.complete:
            break
        pieces.append(_with_space(text, position, position))
    return position, pieces


def _space_before(text: str, position: int) -> int:
    while position > 0 and text[position - 1].isspace():
        position -= 1
    return position


def _with_space(text: str, start: int, end: int) -> CharSpan:
    return _space_before(text, start), skip_space(text, end)


def _merged(pieces: Iterable[CharSpan]) -> list[CharSpan]:
    """Sort the spans, join those that touch or overlap, and drop empty ones."""
    merged: list[CharSpan] = []
    for start, end in sorted(piece for piece in pieces if piece[0] < piece[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
