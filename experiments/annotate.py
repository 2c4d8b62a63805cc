"""Annotation of real answers by hand: the draw, working files, merging with checks, agreement of the annotators.

    python experiments/annotate.py draw --data DATA
    python experiments/annotate.py write --data DATA --output A
    python experiments/annotate.py merge --annotator A A/reply_*.txt
    python experiments/annotate.py agree --data DATA --disputes DIR
    python experiments/annotate.py merge --annotator adjudicated DIR/reply_*.txt
    python experiments/annotate.py export --data DATA --output conversations.jsonl

DATA is the folder of the data sets. `draw` chooses answers and writes `annotations/real_answers.json`, which holds no
text. `write` makes an annotator's working files; the annotator's replies are lines such as `a01: 1-3F 4R 5-9T`. `merge`
checks them completely and stores them. `agree` prints Cohen's κ with intervals from resampling whole answers, and
writes the units in dispute for adjudication. `export` writes the conversations with their final roles, for
`rolewise label --data`. The rules are in `annotations/RULES.md`, the loader is `experiments/annotated.py`.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from annotated import (
    ANNOTATIONS,
    ROLE_BY_LETTER,
    UNKNOWN_LETTER,
    Answer,
    annotated_conversations,
    conversations_of,
    read_annotations,
    read_rows,
    sha256,
    units,
    write_annotations,
)
from shad_agreement import agreement

from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_text
from rolewise.core.limits import read_text
from rolewise.core.statistics import Interval
from rolewise.data.conversation import Conversation
from rolewise.data.readers import write_conversations

SOURCES = (
    # File, answers to draw, rows left out at its start: other measurements of ours use the first 96.
    ("toolrl_rlla/rlla_sft.jsonl", 16, 96),
    ("toolace_100/toolace_sharegpt_100.jsonl", 12, 0),
    ("llamafactory_demos/glaive_toolcall_en_demo.jsonl", 12, 0),
)
FEWEST_UNITS = 20  # shorter last turns are nearly all farewells
MOST_UNITS = 120
ADJUDICATED = "adjudicated"

_PER_FILE = 10
_PER_LINE = 12
_GROUP = re.compile(r"(\d+)(?:-(\d+))?([A-Za-z]+)")
_FORMAT = """\
Reply in one text file per working file (reply_1.txt for 1.md, and so on). For each answer one line or more: its name, a
colon, and groups of unit numbers with their letter, in any order:

    a01: 1-3F 4R 5-9T 10C 11-12T

An empty line, or one that begins with #, is ignored.
"""
_INSTRUCTIONS = f"""\
# Instructions

Annotate alone, from these files and RULES.md (read it first) only; look at no labeller's or model's output and at no
other annotator's reply. Each file gives, per answer, the whole input, the whole answer with ⟦ ⟧ around the stretch to
annotate, and the stretch's units with their numbers, broken into lines where the answer is. What stands before ⟦, and
what the assistant said in earlier turns, has been said (class C); what stands after ⟧ is only there to be understood.

Every numbered unit gets exactly one letter of R, C, F, T. Whether a reply is complete is told by

    python experiments/annotate.py merge --check --annotator NAME reply_1.txt

{_FORMAT}"""
_DISPUTES = f"""\
# Instructions for adjudication

As in RULES.md, one letter for each unit listed as in dispute, and for no other. Behind each stands what the annotators
chose.

{_FORMAT}"""


def main() -> None:
    """Run the subcommand of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", metavar="FILE", type=Path, default=ANNOTATIONS, help="default: the committed")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("draw", "write", "merge", "agree", "export"):
        command = commands.add_parser(name)
        if name != "merge":
            command.add_argument("--data", metavar="DATA", type=Path, required=name != "agree")
        if name == "draw":
            command.add_argument("--seed", type=int, default=0)
        if name in ("write", "export"):
            command.add_argument("--output", type=Path, required=True)
        if name == "merge":
            command.add_argument("--annotator", required=True, help=f"a name, or {ADJUDICATED}")
            command.add_argument("--check", action="store_true", help="check these replies only, and store nothing")
            command.add_argument("replies", metavar="REPLY", nargs="+", type=Path)
        if name == "agree":
            command.add_argument("--disputes", metavar="DIR", type=Path, help="write the units in dispute here")
    arguments = parser.parse_args()
    if arguments.command == "draw":
        answers = draw(arguments.data, arguments.seed)
        write_annotations(arguments.annotations, arguments.seed, answers)
        for file in dict.fromkeys(answer.file for answer in answers):
            counts = [answer.end - answer.first for answer in answers if answer.file == file]
            print(f"{file}: {len(counts)} answers, {sum(counts)} units")
        return
    answers = read_annotations(arguments.annotations)
    if arguments.command == "write":
        write_working_files(answers, arguments.data, arguments.output)
    elif arguments.command == "merge":
        merged = merge(answers, arguments.annotator, arguments.replies, partial=arguments.check)
        if not arguments.check:
            seed = json.loads(arguments.annotations.read_text(encoding="utf-8"))["seed"]
            write_annotations(arguments.annotations, seed, merged)
        print("complete" if not arguments.check else "no error")
    elif arguments.command == "agree":
        print("\n".join(agreement_lines(answers)))
        if arguments.disputes:
            if arguments.data is None:
                raise InputError("--disputes shows the answers; give --data too")
            write_disputes(answers, arguments.data, arguments.disputes)
    else:
        write_conversations(annotated_conversations(arguments.data, answers), arguments.output)


def draw(
    data: Path, seed: int, sources: Sequence[tuple[str, int, int]] = SOURCES, most: int = MOST_UNITS
) -> list[Answer]:
    """Draw answers at random: last assistant turns, of a long one a random one of its equal stretches.

    A turn's text must be its file's only one, because its hash identifies it.

    Args:
        data: the folder of the data sets.
        seed: of the draw; each file has a generator of its own.
        sources: file, number of answers, rows left out at its start.
        most: most units of a stretch.

    Raises:
        InputError: for a file that can't be read or has too few answers.
    """
    drawn: list[Answer] = []
    for file, count, skipped in sources:
        random = Random(f"{seed}:{file}")
        candidates = {
            row: (index, conversation.messages[index]["content"])
            for row, conversation in read_rows(data / file)
            for index in [max(i for i, each in enumerate(conversation.messages) if each["role"] == "assistant")]
        }
        times = Counter(text for _, text in candidates.values())
        fit = [
            row
            for row, (_, text) in candidates.items()
            if row > skipped and times[text] == 1 and len(units(text)) >= FEWEST_UNITS
        ]
        if len(fit) < count:
            raise InputError(f"{data / file}: {len(fit)} answers fit; {count} are needed")
        for row in sorted(random.sample(fit, count)):
            index, text = candidates[row]
            total = len(units(text))
            stretches = -(-total // most)
            chosen = random.randrange(stretches)
            first, end = chosen * total // stretches, (chosen + 1) * total // stretches
            drawn.append(Answer("", file, row, index, sha256(text), first, end, {}))
    Random(seed).shuffle(drawn)
    return [replace(answer, name=f"a{number:02}") for number, answer in enumerate(drawn, start=1)]


def write_working_files(answers: Sequence[Answer], data: Path, folder: Path) -> None:
    """Write an annotator's working files, ten answers each, and the instructions."""
    conversations = conversations_of(answers, data)
    write_text(folder / "INSTRUCTIONS.md", _INSTRUCTIONS)
    for number, first in enumerate(range(0, len(answers), _PER_FILE), start=1):
        parts = []
        for answer in answers[first : first + _PER_FILE]:
            conversation = conversations[answer.name]
            text = conversation.messages[-1]["content"]
            parts += [_shown(answer, conversation), "=== UNITS", _numbered(text, answer)]
        write_text(folder / f"{number}.md", "\n".join(parts) + "\n")


def write_disputes(answers: Sequence[Answer], data: Path, folder: Path) -> None:
    """Write what is needed to adjudicate: each answer with units in dispute, and both letters of these."""
    conversations = conversations_of(answers, data)
    parts = [_DISPUTES]
    for answer in answers:
        text = conversations[answer.name].messages[-1]["content"]
        found = units(text)[answer.first : answer.end]
        disputed = answer.disputed()
        if disputed:
            letters = answer.letters.items()
            lines = [
                f"{number + 1}·{text[slice(*found[number])]}   "
                + ", ".join(f"{name} {given[number]}" for name, given in letters)
                for number in disputed
            ]
            parts += [_shown(answer, conversations[answer.name]), "=== UNITS", _numbered(text, answer)]
            parts += ["=== IN DISPUTE", *lines, ""]
    write_text(folder / "disputes.md", "\n".join(parts))


def _shown(answer: Answer, conversation: Conversation) -> str:
    parts = [f"# {answer.name}"]
    if conversation.tools:
        parts += ["=== tools", *(json.dumps(tool, ensure_ascii=False) for tool in conversation.tools)]
    for message in conversation.messages[:-1]:
        parts += [f"=== {message['role']}", message["content"]]
    text = conversation.messages[-1]["content"]
    found = units(text)
    start, end = found[answer.first].start, found[answer.end - 1].end
    return "\n".join([*parts, "=== THE ANSWER", f"{text[:start]}⟦{text[start:end]}⟧{text[end:]}"])


def _numbered(text: str, answer: Answer) -> str:
    """Return the annotated units with their numbers, broken where the text is and after a number of units."""
    shown = ""
    on_line = 0
    end = 0
    for number, unit in enumerate(units(text)[answer.first : answer.end], start=1):
        if number > 1:
            on_line = 0 if "\n" in text[end : unit.start] or on_line == _PER_LINE else on_line
            shown += "  " if on_line else "\n"
        shown += f"{number}·{text[unit.start : unit.end]}"
        on_line, end = on_line + 1, unit.end
    return shown + "\n"


def merge(answers: Sequence[Answer], annotator: str, replies: Sequence[Path], *, partial: bool = False) -> list[Answer]:
    """Return the answers with an annotator's letters, or the adjudication's.

    Args:
        answers: all annotated answers.
        annotator: whose replies these are; `adjudicated` decides exactly the units in dispute.
        replies: files of lines such as `a01: 1-3F 4R`.
        partial: leave answers out that no reply names.

    Raises:
        InputError: naming file, line and unit, for any unit without exactly one letter.
    """
    by_name = {answer.name: answer for answer in answers}
    adjudicates = annotator == ADJUDICATED
    wanted = {
        name: set(answer.disputed() if adjudicates else range(answer.end - answer.first))
        for name, answer in by_name.items()
    }
    given: dict[str, dict[int, str]] = {}
    for path in replies:
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, colon, groups = line.partition(":")
            name, where = name.strip(), f"{path}:{number}"
            if not colon or name not in by_name:
                raise InputError(f"{where}: expected a line such as `{answers[0].name}: 1-3F 4R`, found {line!r}")
            for unit, letter in _parsed(groups, where):
                if unit - 1 not in wanted[name]:
                    kind = "no unit in dispute" if adjudicates else f"not one of its {len(wanted[name])} units"
                    raise InputError(f"{where}: {name}: {unit} is {kind}; leave it out")
                if unit - 1 in given.setdefault(name, {}):
                    raise InputError(f"{where}: {name}: unit {unit} has a letter already; give it one")
                given[name][unit - 1] = letter
    for name, expected in wanted.items():
        missing = sorted(expected - given.get(name, {}).keys())
        if missing and (name in given or not partial):
            raise InputError(f"{name}: {len(missing)} units have no letter, the first is {missing[0] + 1}; add them")
    merged = []
    for answer in answers:
        found = given.get(answer.name, {})
        letters = "".join(found.get(unit, UNKNOWN_LETTER) for unit in range(answer.end - answer.first))
        if adjudicates:
            answer = replace(answer, adjudicated=letters)
        elif found:
            # New letters may dispute other units; what was adjudicated on the old ones is void.
            answer = replace(answer, letters={**answer.letters, annotator: letters}, adjudicated="")
        merged.append(answer)
    return merged


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path, what="reply").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}; name the annotator's reply") from error


def _parsed(groups: str, where: str) -> list[tuple[int, str]]:
    pairs = []
    for group in groups.replace(",", " ").split():
        match = _GROUP.fullmatch(group)
        if not match or match.group(3) not in ROLE_BY_LETTER:
            raise InputError(f"{where}: {group!r} is not unit numbers and a letter of RCFT, such as 4R or 5-9T")
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        # The longest stretch bounds what a slip such as 1-99999999 may cost.
        if not first <= last < first + MOST_UNITS:
            raise InputError(f"{where}: {group!r} is no range of units; write the smaller number first")
        pairs += [(unit, match.group(3)) for unit in range(first, last + 1)]
    return pairs


def confusions(answers: Sequence[Answer], classes: Sequence[str]) -> np.ndarray:
    """Return int64 [S, K, K]: each answer's units by class in the first and in the second annotation.

    Args:
        answers: S answers with two annotations or more; the first two in alphabetical order count.
        classes: K strings of letters that count as one class.
    """
    class_of = {letter: number for number, letters in enumerate(classes) for letter in letters}
    matrices = np.zeros((len(answers), len(classes), len(classes)), dtype=np.int64)
    for matrix, answer in zip(matrices, answers, strict=True):
        first, second = (answer.letters[name] for name in sorted(answer.letters)[:2])
        for one, other in zip(first, second, strict=True):
            matrix[class_of[one], class_of[other]] += 1
    return matrices


def agreement_lines(answers: Sequence[Answer]) -> list[str]:
    """Return the report: agreement and κ, overall and by file, shares of reasoning, units in dispute.

    Raises:
        InputError: unless all answers have two annotations.
    """
    disputed = sum(len(answer.disputed()) for answer in answers)
    total = sum(answer.end - answer.first for answer in answers)
    lines = [f"{total} units in {len(answers)} answers"]
    files = list(dict.fromkeys(answer.file for answer in answers))
    two, four = ("R", "CFT"), ("R", "C", "F", "T")
    for label, classes, members in (
        ("R against the rest", two, answers),
        ("four classes", four, answers),
        *((f"R against the rest, {file}", two, [a for a in answers if a.file == file]) for file in files),
    ):
        found = agreement(confusions(members, classes))
        share, kappa = Interval(**found["share"]), Interval(**found["kappa"])
        lines.append(f"{label}: agreement {share:.1%}, κ {kappa:.2f} ({len(members)} answers)")
    for name in sorted(answers[0].letters):
        lines.append(f"share of R, {name}: {sum(answer.letters[name].count('R') for answer in answers) / total:.1%}")
    final = "".join(answer.final() for answer in answers)
    known = total - final.count(UNKNOWN_LETTER)
    lines.append(f"share of R, final: {final.count('R') / known:.1%} of {known} units decided")
    lines.append(f"in dispute: {disputed} units, of which {disputed - (total - known)} are adjudicated")
    return lines


if __name__ == "__main__":
    run_script(main)
