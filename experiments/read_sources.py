"""A table of what the readers make of every data file below a directory.

    python experiments/read_sources.py DIRECTORY > table.md

Each file is read by looking, bad records left out. A file that can't be read has its reason in the last column.
"""

import argparse
from pathlib import Path

from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.data.readers import count_rejects, iter_conversations
from rolewise.data.readers.containers import SUFFIXES, open_containers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="DIRECTORY", type=Path)
    directory = parser.parse_args().directory
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give one with data files")
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
    print("| file | format | rows | conversations | with tools | calls | refused, and why |")
    print("|---|---|---:|---:|---:|---:|---|")
    for file in files:
        cells = [str(file.relative_to(directory)), *_read(file)]
        print("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |", flush=True)


def _read(file: Path) -> list[str | int]:
    stream = iter_conversations(file, skip_invalid=True)
    rows = conversations = with_tools = calls = 0
    reason = ""
    try:
        rows = sum(1 for container in open_containers(str(file)) for _ in container.records)
        for conversation in stream:
            conversations += 1
            with_tools += bool(conversation.tools)
            calls += sum(len(message.get("tool_calls") or []) for message in conversation.messages)
    except InputError as error:
        reason = str(error).removeprefix(f"{file}").lstrip(": ")
    if conversations:
        reason = "; ".join(f"{entry.records}: {entry.first.reason}" for entry in count_rejects(stream.rejected))
    return [", ".join(stream.formats), rows, conversations, with_tools, calls, reason]


if __name__ == "__main__":
    run_script(main)
