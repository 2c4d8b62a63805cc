"""The published reward rules for tool calls, by name: ResT's, ToolRL's, and the ablations of ToolRL's paper."""

from dataclasses import replace

from rolewise.rewards.tool_calls import ToolCallRules

TOOLRL = ToolCallRules(format_rule="toolrl", schedule="constant")

REWARD_PRESETS = {
    "rest": ToolCallRules(format_rule="rest", schedule="dynamic"),
    "rest-constant": ToolCallRules(format_rule="rest", schedule="constant"),
    "toolrl": TOOLRL,
    "toolrl-finegrained": replace(TOOLRL, granularity="finegrained"),
    "toolrl-intermediate": replace(TOOLRL, granularity="intermediate"),
    "toolrl-coarse": replace(TOOLRL, granularity="coarse"),
    "toolrl-equal-max": replace(TOOLRL, correctness_max=1.0),
    "toolrl-dynamic": replace(TOOLRL, schedule="dynamic"),
    "toolrl-two-stage": replace(TOOLRL, schedule="two-stage"),
    "toolrl-length": replace(TOOLRL, length="constant"),
    "toolrl-length-dynamic": replace(TOOLRL, length="dynamic"),
}
"""Use `dataclasses.replace` for variants. The ablations are those of arXiv 2504.13958."""
