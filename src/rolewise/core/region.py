"""The regions of a response that calls tools."""

from enum import IntEnum


class Region(IntEnum):
    """Where a token stands in a response. The integer is what columns of regions store (uint8).

    Not members of `Role`: a role says what a token does, a region where it stands, and a token has both (a tool's name
    is reasoning in one sample, boilerplate in another). So roles in saved data sets keep their numbers and their two
    groups, and a weighting takes either: it knows codes and their weights alone.
    """

    OTHER = 0
    """In no region, or across the border of one: brackets and fixed keys around a call, the end-of-turn token, gaps."""
    TAG = 1
    """A tag or label of the format: `<think>`, `</tool_call>`, `[TOOL_CALLS]`, `Action:`."""
    TOOL_NAME = 2
    """The name of the function that is called, without quotes."""
    ARGUMENTS = 3
    """The arguments of a call with their brackets, as far as no name or value of one argument holds the token."""
    ARGUMENT_NAME = 4
    """An argument's name, without quotes."""
    ARGUMENT_VALUE = 5
    """An argument's value: of a string what is between the quotes, of an object or array everything."""
    THINK = 6
    """The thought, without its tags."""
    RESPONSE = 7
    """What is said to the user, without its tags."""

    @property
    def label(self) -> str:
        """Lower-case name, as it appears in logs, tables and options."""
        return self.name.lower()
