"""BFCL, the Berkeley Function-Calling Leaderboard (v4), scored by its official checker in a process of its own.

Left out on purpose: the agentic categories (they search the web, or want an embedding model) and format sensitivity
(the leaderboard gives it no weight).
"""

from rolewise.evaluation.suites.bfcl.suite import Bfcl, make

__all__ = ["Bfcl", "make"]
