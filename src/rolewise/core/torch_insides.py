"""Every use of PyTorch's internals, in one place (PyTorch ≥ 2.11).

`tests/test_torch_insides.py` fails when one of them changes. Relied on:
- `tensor._version` counts the writes into a tensor's memory; tensors made in inference mode have no count.
"""

import torch


def write_count(tensor: torch.Tensor) -> int:
    """Return the number of in-place writes to a tensor, those through `data` not included; 0 for a tensor made in
    inference mode."""
    return 0 if tensor.is_inference() else int(tensor._version)
