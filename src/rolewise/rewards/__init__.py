"""Rewards by rule, such as the correctness of a mathematical answer, and process-reward models."""
