"""The roles a token can play."""

from enum import IntEnum


class Role(IntEnum):
    """What a token does in a response. The integer is what `token_roles` columns store (uint8).

    `FORMAT` and `TEMPLATE` are the two kinds of boilerplate that SHAD's paper names (arXiv 2412.14780, figure 1);
    wherever two groups are compared they count as `BOILERPLATE`.
    """

    CONTEXT = 0
    """Carries no loss: system, user and tool messages, headers, padding."""
    PLAIN = 1
    """Carries loss and has no role: general chat, or outputs that a labeller could not judge."""
    REASONING = 2
    """Depends on the query: what has to be worked out for this sample."""
    BOILERPLATE = 3
    """The same in many samples, or copied from earlier output; not split further."""
    FORMAT = 4
    """Boilerplate that constrains the structure: braces, tags, field names."""
    TEMPLATE = 5
    """Boilerplate that connects: stock phrases."""

    @property
    def label(self) -> str:
        """Lower-case name, as it appears in logs, tables and the data set's metadata."""
        return self.name.lower()

    @property
    def group(self) -> "Role":
        """The role as the two-group methods see it: FORMAT and TEMPLATE become BOILERPLATE."""
        return Role.BOILERPLATE if self in BOILERPLATE_ROLES else self


BOILERPLATE_ROLES = frozenset({Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE})
"""The roles that count as boilerplate."""
