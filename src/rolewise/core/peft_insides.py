"""Every touch of PEFT's insides, in one place (PEFT ≥ 0.20).

`tests/test_peft_insides.py` fails when one of them moves. What is relied on:
- `peft.tuners.tuners_utils.BaseTunerLayer`, the kind of every layer that an adapter changes, with `active_adapters`,
  `merged_adapters` and `disable_adapters`;
- `peft.utils.TrainableTokensWrapper`, which stands in for an embedding or a head of which single rows are trained.
"""

from collections.abc import Hashable
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import TrainableTokensWrapper


def adapter_state(model: Any) -> Hashable:
    """Changes whenever adapters of a model, a torch module, are switched, turned off or merged."""
    return tuple(
        (tuple(module.active_adapters), tuple(module.merged_adapters), module.disable_adapters)
        for module in model.modules()
        if isinstance(module, BaseTunerLayer)
    )


def trains_single_rows(layer: object) -> bool:
    """Whether an embedding or a head is PEFT's stand-in that trains single rows of it."""
    return isinstance(layer, TrainableTokensWrapper)
