"""BFCL, the Berkeley Function-Calling Leaderboard (v4), scored by its official checker in a separate process.

Omitted on purpose: the agentic categories (they search the web, or need an embedding model) and format sensitivity
(it has no weight in the leaderboard).
"""

from rolewise.evaluation.suites.bfcl.suite import Bfcl, make

__all__ = ["Bfcl", "make"]
