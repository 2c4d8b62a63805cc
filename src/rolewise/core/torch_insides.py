"""Every touch of PyTorch's insides, in one place (PyTorch ≥ 2.11).

`tests/test_torch_insides.py` fails when one of them moves. What is relied on:
- `tensor._version` counts the writes into a tensor's memory; tensors made in inference mode have no count.
"""

import torch


def write_count(tensor: torch.Tensor) -> int:
    """How often a tensor was written in place, not through `data`; 0 for one made in inference mode."""
    return 0 if tensor.is_inference() else int(tensor._version)
