"""The regions of a response that calls tools."""

from enum import IntEnum


class Region(IntEnum):
    """The part of a response that a token belongs to. Columns of regions store the integer (uint8).

    Regions are not members of `Role`: a role describes a token's function, a region its place, and a token has both (a
    tool's name is reasoning in one sample, boilerplate in another). So roles in saved data sets keep their numbers and
    their two groups, and a weighting takes either: it only knows codes and their weights.
    """

    OTHER = 0
    """In no region, or across the border of one: brackets and fixed keys around a call, the end-of-turn token, gaps."""
    TAG = 1
    """A tag or label of the format: `<think>`, `</tool_call>`, `[TOOL_CALLS]`, `Action:`."""
    TOOL_NAME = 2
    """The name of the called function, without quotes."""
    ARGUMENTS = 3
    """The arguments of a call with their brackets, except tokens within the name or value of one argument."""
    ARGUMENT_NAME = 4
    """An argument's name, without quotes."""
    ARGUMENT_VALUE = 5
    """An argument's value: of a string the part between the quotes, of an object or array everything."""
    THINK = 6
    """The thought, without its tags."""
    RESPONSE = 7
    """The reply to the user, without its tags."""

    @property
    def label(self) -> str:
        """Lower-case name, as it appears in logs, tables and options."""
        return self.name.lower()


ARGUMENT_REGIONS = (Region.ARGUMENTS, Region.ARGUMENT_NAME, Region.ARGUMENT_VALUE)
"""The regions of a call's arguments."""
