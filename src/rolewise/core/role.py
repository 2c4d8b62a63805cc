"""The roles a token can play."""

from enum import IntEnum


class Role(IntEnum):
    """The function of a token in a response. Columns named `token_roles` store the integer (uint8).

    `FORMAT` and `TEMPLATE` are the two kinds of boilerplate that SHAD's paper names (arXiv 2412.14780, figure 1);
    comparisons of two groups count them as `BOILERPLATE`.
    """

    CONTEXT = 0
    """Carries no loss: system, user and tool messages, headers, padding."""
    PLAIN = 1
    """Carries loss but has no role: general chat, or outputs that a labeller could not judge."""
    REASONING = 2
    """Depends on the query: content to be worked out for this sample."""
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
        """The role in two-group methods: FORMAT and TEMPLATE become BOILERPLATE."""
        return Role.BOILERPLATE if self in BOILERPLATE_ROLES else self


BOILERPLATE_ROLES = frozenset({Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE})
"""The roles that count as boilerplate."""
