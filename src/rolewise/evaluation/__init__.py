"""Statistics and suites: how sure a number is, and how good a model."""
