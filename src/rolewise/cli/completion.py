"""`rolewise completion`."""

import json
from collections.abc import Iterator, Sequence
from functools import partial

from rolewise.cli.parser import command_of
from rolewise.core.errors import InputError
from rolewise.options.table import OptionTable, is_flag

DESCRIPTION = """Print a script that completes commands and options in a shell.

  bash   source <(rolewise completion bash)                                    in ~/.bashrc
  zsh    source <(rolewise completion zsh)                                     in ~/.zshrc, after compinit
  fish   rolewise completion fish > ~/.config/fish/completions/rolewise.fish
"""
SHELLS = ("bash", "zsh", "fish")
_quoted = partial(json.dumps, ensure_ascii=False)  # fish reads it alike: no text of ours has a dollar sign


def run(argv: Sequence[str]) -> None:
    """Print the script of the shell that the arguments name."""
    if {"-h", "--help"} & set(argv):
        print(f"usage: rolewise completion {{{','.join(SHELLS)}}}\n\n{DESCRIPTION}", end="")
        return
    if len(argv) != 1 or argv[0] not in SHELLS:
        raise InputError(f"name a shell, e.g. rolewise completion bash; choose from {', '.join(SHELLS)}")
    print("\n".join(_fish() if argv[0] == "fish" else _bash(is_zsh=argv[0] == "zsh")))


def _bash(*, is_zsh: bool) -> Iterator[str]:
    """Yield a function that offers a command's flags, the choices of the preceding flag, and otherwise files."""
    from rolewise.cli.main import COMMANDS

    if is_zsh:
        yield "autoload -U +X bashcompinit && bashcompinit"
    yield "_rolewise() {"
    yield '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'    COMPREPLY=($(compgen -W "{" ".join(COMMANDS)}" -- "$word"))'
    yield "    return"
    yield "  fi"
    yield '  case "${COMP_WORDS[1]} $before" in'
    for command, table in _tables().items():
        for name in table.names():
            if table.described(name).choices:
                words = " ".join(table.described(name).choices)
                yield f'    "{command} {_flags(table, name)[0]}") words="{words}" ;;'
    yield "  esac"
    yield '  if [ -z "$words" ]; then'
    yield '    case "${COMP_WORDS[1]}" in'
    for command, table in _tables().items():
        flags = " ".join(flag for name in table.names() for flag in _flags(table, name))
        yield f'      {command}) [ "${{word:0:1}}" = - ] && words="{flags} --config --help" ;;'
    yield "    esac"
    yield "  fi"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _rolewise rolewise"


def _fish() -> Iterator[str]:
    from rolewise.cli.main import COMMANDS

    yield "complete -c rolewise -n __fish_use_subcommand -f"
    for command, text in COMMANDS.items():
        yield f"complete -c rolewise -n __fish_use_subcommand -a {command} -d {_quoted(text)}"
    for command, table in _tables().items():
        for name in table.names():
            option = table.described(name)
            for flag in _flags(table, name):
                needs = "" if is_flag(option.annotation) else " -r"
                values = f" -f -a {_quoted(' '.join(option.choices))}" if option.choices else ""
                yield (
                    f"complete -c rolewise -n '__fish_seen_subcommand_from {command}' -l {flag[2:]}{needs}{values} "
                    f"-d {_quoted(table.help(name))}"
                )


def _tables() -> dict[str, OptionTable]:
    """Return the commands that have options, with those that are known without TRL."""
    from rolewise.cli.main import COMMANDS

    return {name: command.light_table() for name in COMMANDS if (command := command_of(name)) is not None}


def _flags(table: OptionTable, name: str) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    part = name.removesuffix("_args")
    if part != name and part in table.parts:
        return [f"--{part}-arg"]
    return [flag, f"--no-{flag[2:]}"] if is_flag(table.described(name).annotation) else [flag]
