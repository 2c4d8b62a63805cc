"""A labeller that knows: the true roles of generated conversations, to tell what a weighting does from what labels do.

A plugin, for `rolewise label --plugin experiments/true_roles.py --method truth`, and for experiments: with RFT on true
roles beside RFT on found ones, a difference is the labeller's. `examples/experiments/baselines_small.yaml` has both.
"""

from collections.abc import Iterator, Sequence

from rolewise import LabellingContext, RenderedSample, TokenLabels, register_labeller
from rolewise.core.errors import InputError


def true_labels(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterator[TokenLabels]:
    """The roles as generated. Tokens that lie across the end of a span stay PLAIN, since they have no one true role.

    Raises:
        InputError: for a conversation whose `role_spans` are not known.
    """
    for sample in samples:
        if sample.true_roles is None:
            raise InputError(f"{sample.source}: its true roles are not known; --method truth needs role_spans")
        yield TokenLabels.without_losses(sample.true_roles)


register_labeller("truth", true_labels)
