"""Rollouts of `rolewise reinforce`, from its options."""

from transformers import PreTrainedTokenizerBase

from rolewise.engines.base import Sampling
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.jobs.engines import open_engine
from rolewise.jobs.reinforce_data import QuestionData
from rolewise.options.training import ReinforceOptions
from rolewise.search.policies import TokenPolicy
from rolewise.search.sampled_rollouts import OpenEngine, SampledRollouts
from rolewise.search.settings import SearchSettings
from rolewise.search.tree_rollouts import TreeRollouts
from rolewise.search.values import Values
from rolewise.training.reinforce import ReinforceConfig


def search_settings(options: ReinforceOptions, training: ReinforceConfig) -> SearchSettings:
    """Return the settings of the search; sampling uses TRL's `temperature`, `top_p` and `top_k`.

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
        top_k=max(training.top_k, 0),  # in some versions, TRL uses -1 for all
    )


def make_rollouts(
    options: ReinforceOptions, training: ReinforceConfig, data: QuestionData, values: Values
) -> TreeRollouts | SampledRollouts:
    """Make rollouts by tree search or plain sampling, with an engine over the model in training or a server; the caller
    closes them.

    Raises:
        InputError: for settings out of range.
        EngineError: if the server can't be reached or used.
    """
    engine = _engine(options, data.tokenizer)
    if options.rollouts_from == "tree":
        policy = TokenPolicy(data.tokenizer, data.behaviours, options.chat_template)
        settings = search_settings(options, training)
        return TreeRollouts(engine, policy, values, settings, options.paths)
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
        server = open_engine(options, tokenizer)  # now, so that a missing server is reported before any work
        return lambda model: server
    batch_size = {} if options.batch_size is None else {"batch_size": options.batch_size}
    return lambda model: TransformersEngine(model, tokenizer, **batch_size)
