"""`rolewise completion`."""

import re
from collections.abc import Iterator, Sequence

from rolewise.cli.parser import command_of
from rolewise.cli.train import TrainingCommand
from rolewise.core.errors import InputError
from rolewise.core.typed_values import alternatives, is_enum
from rolewise.options.table import OptionTable, is_flag

DESCRIPTION = """Print a script that completes commands, options and their values in a shell. It takes some seconds, for
the trainers' options too: write it to a file once, and anew after an update.

  bash   rolewise completion bash > ~/.rolewise.bash    and source that file in ~/.bashrc
  zsh    rolewise completion zsh > ~/.rolewise.zsh      and source that file in ~/.zshrc, after compinit
  fish   rolewise completion fish > ~/.config/fish/completions/rolewise.fish
"""
SHELLS = ("bash", "zsh", "fish")
GENERAL = {"--config": "YAML file with any of these options; flags win.", "--help": "Show help."}
TRAINERS = {"--help-all": "Show help with the trainer's options."}
Flags = dict[str, tuple[str, str, bool]]
"""Flag → its values, separated by spaces; its help; whether a value follows it."""


def run(argv: Sequence[str]) -> None:
    """Print the script of the shell that the arguments name."""
    if {"-h", "--help"} & set(argv):
        print(f"usage: rolewise completion {{{','.join(SHELLS)}}}\n\n{DESCRIPTION}", end="")
        return
    if len(argv) != 1 or argv[0] not in SHELLS:
        raise InputError(f"name a shell, e.g. rolewise completion bash; choose from {', '.join(SHELLS)}")
    print("\n".join(_fish() if argv[0] == "fish" else _bash(is_zsh=argv[0] == "zsh")))


def _bash(*, is_zsh: bool) -> Iterator[str]:
    """Yield a function that offers a command's flags, the values of the preceding flag, and otherwise files."""
    from rolewise.cli.main import COMMANDS

    if is_zsh:
        yield "autoload -U +X bashcompinit && bashcompinit"
    yield "_rolewise() {"
    yield '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'    COMPREPLY=($(compgen -W "{" ".join(COMMANDS)} --help --version" -- "$word"))'
    yield "    return"
    yield "  fi"
    yield '  if [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi  # bash breaks --flag=value at the ='
    yield '  if [ "$word" = "=" ]; then word=""; fi'
    yield '  case "${COMP_WORDS[1]} $before" in'
    words, offered = _words(), {command: _flags(command) for command in COMMANDS}
    for command, given in words.items():
        yield f'    "{command} {command}") words="{given}" ;;'
    for command, flags in offered.items():
        for flag, (values, _, _) in flags.items():
            if values:
                yield f'    "{command} {flag}") words="{values}" ;;'
    yield "  esac"
    yield '  if [ -z "$words" ] && [ "${word:0:1}" = - ]; then'
    yield '    case "${COMP_WORDS[1]}" in'
    for command, flags in offered.items():
        yield f'      {command}) words="{" ".join(flags)}" ;;'
    yield "    esac"
    yield "  fi"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _rolewise rolewise"


def _fish() -> Iterator[str]:
    from rolewise.cli.main import COMMANDS

    yield "function __rolewise_command"
    yield "  set -l words (commandline -opc)"
    yield '  test "$words[2]" = "$argv[1]"'
    yield "end"
    first = "complete -c rolewise -n '__rolewise_command \"\"'"
    yield f"{first} -f -l help -d 'Show help.'"
    yield f"{first} -f -l version -d 'Print the version.'"
    for command, text in COMMANDS.items():
        yield f"{first} -f -a {command} -d {_quoted(text)}"
    for command, given in _words().items():
        yield f"complete -c rolewise -n '__rolewise_command {command}' -f -a '{given}'"
    for command in COMMANDS:
        for flag, (values, text, needs) in _flags(command).items():
            value = (f" -x -a '{values}'" if values else " -r") if needs else ""
            yield f"complete -c rolewise -n '__rolewise_command {command}' -l {flag[2:]}{value} -d {_quoted(text)}"


def _words() -> dict[str, str]:
    """Return the words that may follow a command that takes no options."""
    from rolewise.cli.schema import commands

    return {"schema": " ".join(commands()), "completion": " ".join(SHELLS)}


def _flags(command: str) -> Flags:
    """Return all flags of a command."""
    from rolewise.cli.experiment import build_parser

    found = command_of(command)
    if command == "experiment":
        lines = re.findall(r"^  (?:-h, )?(--\S+)( [A-Z]+)? +(.+)$", build_parser().format_help(), re.MULTILINE)
        return {flag: ("", text, bool(value)) for flag, value, text in lines}
    if found is None:
        return {"--help": ("", GENERAL["--help"], False)}
    table = found.table()
    flags = {flag: told for name in table.names() for flag, told in _flags_of(table, name).items()}
    general = GENERAL | (TRAINERS if isinstance(found, TrainingCommand) else {})
    return flags | {flag: ("", text, flag == "--config") for flag, text in general.items()}


def _flags_of(table: OptionTable, name: str) -> Flags:
    option, part, flag = table.described(name), name.removesuffix("_args"), f"--{name.replace('_', '-')}"
    text = table.help(name)
    if part != name and part in table.parts:
        return {f"--{part}-arg": ("", text, True)}
    if is_flag(option.annotation):
        return {flag: ("", text, False), f"--no-{flag[2:]}": ("", text, False)}
    values = list(option.choices) or table.names_of_parts(name)
    values += [member.value for kind in alternatives(option.annotation) if is_enum(kind) for member in kind]
    return {flag: (" ".join(values), text, True)}


def _quoted(text: str) -> str:
    """Return a text on one line, quoted for fish."""
    return "'" + " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'") + "'"
