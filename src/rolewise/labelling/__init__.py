"""Labellers, which assign a role to each token: SHAD, the regex, and labellers that plugins add."""
