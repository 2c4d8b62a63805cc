"""Statistics and suites: confidence intervals of scores, and benchmarks of models."""
