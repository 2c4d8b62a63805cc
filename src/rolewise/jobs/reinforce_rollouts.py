"""Where the paths of `rolewise reinforce` come from, and who judges them, by its options."""

from transformers import PreTrainedTokenizerBase

from rolewise.core.errors import InputError
from rolewise.engines.base import Sampling
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.jobs.engines import open_engine
from rolewise.jobs.reinforce_data import QuestionData
from rolewise.jobs.reinforce_options import ReinforceOptions
from rolewise.rewards.process_reward_models import open_process_reward
from rolewise.search.policies import TokenPolicy
from rolewise.search.sampled_rollouts import OpenEngine, SampledRollouts
from rolewise.search.settings import SearchSettings
from rolewise.search.tree_rollouts import TreeRollouts
from rolewise.search.value_registry import MATH, make_values
from rolewise.search.values import Values
from rolewise.training.reinforce import ReinforceConfig


def open_values(options: ReinforceOptions) -> Values:
    """Who judges; whoever opens it closes it.

    Raises:
        InputError: for an unknown value, or a process-reward model that can't be had.
    """
    process_reward = None
    if options.process_reward is not None:
        process_reward = open_process_reward(
            options.process_reward,
            options.process_reward_format,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
        )
    return make_values(
        options.value,
        process_reward=process_reward,
        wrong_with_answer=options.wrong_with_answer,
        numeric=options.numeric,
    )


def check_values(options: ReinforceOptions) -> None:
    """Refuse what `open_values` would, but for a process-reward model, which takes time to load.

    Raises:
        InputError: for an unknown value, or one that asks no process-reward model where one is given.
    """
    if options.process_reward is not None and options.value != MATH:
        raise InputError(f"value {options.value!r} is a function and asks no process_reward; leave that out")
    make_values(options.value, wrong_with_answer=options.wrong_with_answer, numeric=options.numeric).close()


def search_settings(options: ReinforceOptions, training: ReinforceConfig) -> SearchSettings:
    """Settings of the search; how it samples is TRL's `temperature`, `top_p` and `top_k`.

    Raises:
        InputError: for a setting out of range.
    """
    return SearchSettings(
        rollouts=options.rollouts,
        max_depth=options.max_depth,
        exploration=options.exploration,
        step_tokens=options.step_tokens,
        temperature=training.temperature,
        top_p=training.top_p,
        top_k=max(training.top_k, 0),  # TRL has -1 for all in some versions
    )


def make_rollouts(
    options: ReinforceOptions, training: ReinforceConfig, data: QuestionData, values: Values
) -> TreeRollouts | SampledRollouts:
    """Rollouts by tree search or plain sampling, with an engine over the model in training or a server; whoever makes
    them closes them.

    Raises:
        InputError: for settings out of range.
        EngineError: if the server can't be reached or used.
    """
    engine = _engine(options, data.tokenizer)
    if options.rollouts_from == "tree":
        policy = TokenPolicy(data.tokenizer, data.behaviours, options.chat_template)
        settings = search_settings(options, training)
        return TreeRollouts(engine, policy, values, settings, options.paths)  # type: ignore[arg-type]  # checked there
    sampling = Sampling(
        max_new_tokens=training.max_completion_length,
        temperature=training.temperature,
        top_p=training.top_p,
        top_k=max(training.top_k, 0),
        stop_token_ids=data.stop_token_ids,
    )
    return SampledRollouts(engine, values, sampling, data.functional)


def _engine(options: ReinforceOptions, tokenizer: PreTrainedTokenizerBase) -> OpenEngine:
    if options.server is not None:
        server = open_engine(options, tokenizer)  # now, so that one that is not there is known before anything is done
        return lambda model: server
    batch_size = {} if options.batch_size is None else {"batch_size": options.batch_size}
    return lambda model: TransformersEngine(model, tokenizer, **batch_size)
