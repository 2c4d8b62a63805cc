"""Errors meant for people: one line that says what is wrong, where, and what to do."""


class RolewiseError(Exception):
    """Something the user can mend. Commands print the message alone, without a traceback, and exit with code 2."""


class InputError(RolewiseError):
    """A record, file, template or option that can't be used. The message names the place, e.g. `data.jsonl:12`."""
