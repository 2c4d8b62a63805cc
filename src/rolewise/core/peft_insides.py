"""Every use of PEFT's internals, in one place (PEFT ≥ 0.20).

`tests/test_peft_insides.py` fails when one of them changes. Relied on:
- `peft.tuners.tuners_utils.BaseTunerLayer`, the class of every layer that an adapter changes, with `active_adapters`,
  `merged_adapters` and `disable_adapters`;
- `peft.utils.TrainableTokensWrapper`, which replaces an embedding or a head with single trained rows.
"""

from collections.abc import Hashable
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import TrainableTokensWrapper


def adapter_state(model: Any) -> Hashable:
    """Return a value that changes whenever adapters of a model (a torch module) are switched, disabled or merged."""
    return tuple(
        (tuple(module.active_adapters), tuple(module.merged_adapters), module.disable_adapters)
        for module in model.modules()
        if isinstance(module, BaseTunerLayer)
    )


def trains_single_rows(layer: object) -> bool:
    """Return True if an embedding or a head is PEFT's wrapper that trains single rows of it."""
    return isinstance(layer, TrainableTokensWrapper)
