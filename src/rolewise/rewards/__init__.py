"""Rewards by rule: whether a mathematical answer is right."""
