"""Rolewise: fine-tune language models by the role that each token plays.

The public names below load what they need when they are first asked for, so `import rolewise` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolewise.core.behaviour import Behaviour, BehaviourSet, find_behaviours
    from rolewise.core.errors import InputError, RolewiseError
    from rolewise.core.region import Region
    from rolewise.core.role import Role
    from rolewise.data.conversation import Conversation, RoleSpan
    from rolewise.data.labelled import LabelledData, TokenLabels, load_labelled
    from rolewise.data.readers import Format, read_conversations, register_format, write_conversations
    from rolewise.data.render import RenderedSample, Renderer
    from rolewise.engines.base import Engine, Sample, Sampling
    from rolewise.engines.server import ServerEngine
    from rolewise.engines.transformers_engine import TransformersEngine
    from rolewise.evaluation.answer_checks import register_checker
    from rolewise.evaluation.examples import Example, Verdict
    from rolewise.evaluation.suite import Answer, Ask, Suite, SuiteSettings
    from rolewise.evaluation.suites import register_suite
    from rolewise.experiment_runner.config import Experiment, read_experiment
    from rolewise.experiment_runner.run import run_experiment
    from rolewise.generator import generate
    from rolewise.jobs.evaluate import evaluate
    from rolewise.jobs.export import export
    from rolewise.jobs.grpo import train_grpo
    from rolewise.jobs.label import label
    from rolewise.jobs.push import push
    from rolewise.jobs.reinforce import reinforce
    from rolewise.jobs.relabel import relabel
    from rolewise.jobs.sample import sample
    from rolewise.jobs.search import SearchResult, search_trees
    from rolewise.jobs.sft import fine_tune
    from rolewise.jobs.solve import SolveResult, solve
    from rolewise.jobs.transfer import transfer_labels
    from rolewise.jobs.warmup import WarmupData, make_warmup_data
    from rolewise.labelling.contrast import Contrast
    from rolewise.labelling.labellers import LabellingContext, register_labeller
    from rolewise.labelling.sampled_roles import contrast_rollout_roles, shad_rollout_roles
    from rolewise.labelling.settings.contrast import ContrastConfig
    from rolewise.labelling.settings.shad import SHADConfig
    from rolewise.labelling.shad import SHAD
    from rolewise.options.answers import EvalOptions, SampleOptions, SearchOptions, SolveOptions
    from rolewise.options.labelling import ExportOptions, LabelOptions, PushOptions, TransferOptions
    from rolewise.options.training import GRPOOptions, ReinforceOptions, SFTOptions, WarmupOptions
    from rolewise.rewards.process_reward import ProcessRewardModel
    from rolewise.rewards.process_reward_models import (
        ClassifierReward,
        StepFormat,
        TokenReward,
        load_process_reward,
        open_process_reward,
    )
    from rolewise.rewards.process_reward_server import ServerReward
    from rolewise.rewards.registry import register_reward
    from rolewise.rewards.tool_calls import ToolCallRules, tool_call_rewards
    from rolewise.roles.regions import label_regions
    from rolewise.search.judges import FunctionValues, MathValues
    from rolewise.search.policies import PromptPolicy, TokenPolicy
    from rolewise.search.sampled_rollouts import SampledRollouts
    from rolewise.search.settings import SearchSettings
    from rolewise.search.tree import Node, Question, Step, Tree, read_trees, write_trees
    from rolewise.search.tree_rollouts import TreeRollouts
    from rolewise.search.tree_search import TreeSearch
    from rolewise.search.value_registry import make_values, register_value
    from rolewise.search.values import Judgement
    from rolewise.search.votes import Vote, accuracy_curve, vote
    from rolewise.training.functional_tokens import (
        add_functional_tokens,
        functional_token_ids,
        prepare_functional,
    )
    from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
    from rolewise.training.reinforce import ReinforceConfig, ReinforceTrainer
    from rolewise.training.rollout_paths import RolledPath, Rollouts
    from rolewise.training.rollout_roles import RolloutRoles
    from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer
    from rolewise.weighting import (
        RFT,
        AlphaFT,
        ResT,
        ResTOfficial,
        SampleMean,
        TokenMean,
        Weighting,
        register_weighting,
    )

__version__ = "0.1.0"

_HOMES = {
    "rolewise.core.behaviour": ("Behaviour", "BehaviourSet", "find_behaviours"),
    "rolewise.core.errors": ("InputError", "RolewiseError"),
    "rolewise.core.region": ("Region",),
    "rolewise.core.role": ("Role",),
    "rolewise.data.conversation": ("Conversation", "RoleSpan"),
    "rolewise.generator": ("generate",),
    "rolewise.data.labelled": ("LabelledData", "TokenLabels", "load_labelled"),
    "rolewise.data.readers": ("Format", "read_conversations", "register_format", "write_conversations"),
    "rolewise.data.render": ("RenderedSample", "Renderer"),
    "rolewise.evaluation.answer_checks": ("register_checker",),
    "rolewise.experiment_runner.config": ("Experiment", "read_experiment"),
    "rolewise.experiment_runner.run": ("run_experiment",),
    "rolewise.engines.base": (
        "Engine",
        "Sample",
        "Sampling",
    ),
    "rolewise.engines.server": ("ServerEngine",),
    "rolewise.engines.transformers_engine": ("TransformersEngine",),
    "rolewise.evaluation.suite": (
        "Answer",
        "Ask",
        "Suite",
        "SuiteSettings",
    ),
    "rolewise.evaluation.examples": ("Example", "Verdict"),
    "rolewise.evaluation.suites": ("register_suite",),
    "rolewise.jobs.evaluate": ("evaluate",),
    "rolewise.jobs.export": ("export",),
    "rolewise.jobs.grpo": ("train_grpo",),
    "rolewise.jobs.label": ("label",),
    "rolewise.jobs.push": ("push",),
    "rolewise.jobs.reinforce": ("reinforce",),
    "rolewise.jobs.relabel": ("relabel",),
    "rolewise.jobs.sample": ("sample",),
    "rolewise.jobs.search": ("SearchResult", "search_trees"),
    "rolewise.jobs.sft": ("fine_tune",),
    "rolewise.jobs.solve": ("SolveResult", "solve"),
    "rolewise.jobs.transfer": ("transfer_labels",),
    "rolewise.jobs.warmup": ("WarmupData", "make_warmup_data"),
    "rolewise.labelling.contrast": ("Contrast",),
    "rolewise.labelling.labellers": ("LabellingContext", "register_labeller"),
    "rolewise.labelling.sampled_roles": ("contrast_rollout_roles", "shad_rollout_roles"),
    "rolewise.labelling.settings.contrast": ("ContrastConfig",),
    "rolewise.labelling.settings.shad": ("SHADConfig",),
    "rolewise.labelling.shad": ("SHAD",),
    "rolewise.options.answers": ("EvalOptions", "SampleOptions", "SearchOptions", "SolveOptions"),
    "rolewise.options.labelling": ("ExportOptions", "LabelOptions", "PushOptions", "TransferOptions"),
    "rolewise.options.training": ("GRPOOptions", "ReinforceOptions", "SFTOptions", "WarmupOptions"),
    "rolewise.rewards.registry": ("register_reward",),
    "rolewise.rewards.tool_calls": ("ToolCallRules", "tool_call_rewards"),
    "rolewise.rewards.process_reward": ("ProcessRewardModel",),
    "rolewise.rewards.process_reward_models": (
        "ClassifierReward",
        "StepFormat",
        "TokenReward",
        "load_process_reward",
        "open_process_reward",
    ),
    "rolewise.rewards.process_reward_server": ("ServerReward",),
    "rolewise.roles.regions": ("label_regions",),
    "rolewise.search.judges": ("FunctionValues", "MathValues"),
    "rolewise.search.policies": ("PromptPolicy", "TokenPolicy"),
    "rolewise.search.sampled_rollouts": ("SampledRollouts",),
    "rolewise.search.settings": ("SearchSettings",),
    "rolewise.search.tree": ("Node", "Question", "Step", "Tree", "read_trees", "write_trees"),
    "rolewise.search.tree_rollouts": ("TreeRollouts",),
    "rolewise.search.tree_search": ("TreeSearch",),
    "rolewise.search.value_registry": ("make_values", "register_value"),
    "rolewise.search.values": ("Judgement",),
    "rolewise.search.votes": ("Vote", "accuracy_curve", "vote"),
    "rolewise.training.functional_tokens": ("add_functional_tokens", "functional_token_ids", "prepare_functional"),
    "rolewise.training.grpo": ("WeightedGRPOConfig", "WeightedGRPOTrainer"),
    "rolewise.training.reinforce": ("ReinforceConfig", "ReinforceTrainer"),
    "rolewise.training.rollout_paths": ("RolledPath", "Rollouts"),
    "rolewise.training.rollout_roles": ("RolloutRoles",),
    "rolewise.training.sft": ("WeightedSFTConfig", "WeightedSFTTrainer"),
    "rolewise.weighting": (
        "RFT",
        "AlphaFT",
        "ResT",
        "ResTOfficial",
        "SampleMean",
        "TokenMean",
        "Weighting",
        "register_weighting",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "RFT",
    "SHAD",
    "AlphaFT",
    "Answer",
    "Ask",
    "Behaviour",
    "BehaviourSet",
    "ClassifierReward",
    "Contrast",
    "ContrastConfig",
    "Conversation",
    "Engine",
    "EvalOptions",
    "Example",
    "Experiment",
    "ExportOptions",
    "Format",
    "FunctionValues",
    "GRPOOptions",
    "InputError",
    "Judgement",
    "LabelOptions",
    "LabelledData",
    "LabellingContext",
    "MathValues",
    "Node",
    "ProcessRewardModel",
    "PromptPolicy",
    "PushOptions",
    "Question",
    "Region",
    "ReinforceConfig",
    "ReinforceOptions",
    "ReinforceTrainer",
    "RenderedSample",
    "Renderer",
    "ResT",
    "ResTOfficial",
    "Role",
    "RoleSpan",
    "RolewiseError",
    "RolledPath",
    "RolloutRoles",
    "Rollouts",
    "SFTOptions",
    "SHADConfig",
    "Sample",
    "SampleMean",
    "SampleOptions",
    "SampledRollouts",
    "Sampling",
    "SearchOptions",
    "SearchResult",
    "SearchSettings",
    "ServerEngine",
    "ServerReward",
    "SolveOptions",
    "SolveResult",
    "Step",
    "StepFormat",
    "Suite",
    "SuiteSettings",
    "TokenLabels",
    "TokenMean",
    "TokenPolicy",
    "TokenReward",
    "ToolCallRules",
    "TransferOptions",
    "TransformersEngine",
    "Tree",
    "TreeRollouts",
    "TreeSearch",
    "Verdict",
    "Vote",
    "WarmupData",
    "WarmupOptions",
    "WeightedGRPOConfig",
    "WeightedGRPOTrainer",
    "WeightedSFTConfig",
    "WeightedSFTTrainer",
    "Weighting",
    "accuracy_curve",
    "add_functional_tokens",
    "contrast_rollout_roles",
    "evaluate",
    "export",
    "find_behaviours",
    "fine_tune",
    "functional_token_ids",
    "generate",
    "label",
    "label_regions",
    "load_labelled",
    "load_process_reward",
    "make_values",
    "make_warmup_data",
    "open_process_reward",
    "prepare_functional",
    "push",
    "read_conversations",
    "read_experiment",
    "read_trees",
    "register_checker",
    "register_format",
    "register_labeller",
    "register_reward",
    "register_suite",
    "register_value",
    "register_weighting",
    "reinforce",
    "relabel",
    "run_experiment",
    "sample",
    "search_trees",
    "shad_rollout_roles",
    "solve",
    "tool_call_rewards",
    "train_grpo",
    "transfer_labels",
    "vote",
    "write_conversations",
    "write_trees",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rolewise' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
