"""What Rolewise relies on in PyTorch's insides; a failure here says what moved."""

import torch

from rolewise.core.torch_insides import write_count


def test_writes_into_a_tensor_are_counted() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    counts = [write_count(weight)]
    with torch.no_grad():
        weight.add_(1)
        counts.append(write_count(weight))
        weight[0] = 5
        counts.append(write_count(weight))
    (weight * 2).sum().backward()
    assert write_count(weight) == counts[-1], "reading counts as a write"
    torch.optim.SGD([weight], lr=0.1).step()
    counts.append(write_count(weight))
    assert len(set(counts)) == 4, "tensor._version no longer counts writes"


def test_tensors_of_inference_mode_have_no_count() -> None:
    with torch.inference_mode():
        assert write_count(torch.zeros(3)) == 0
