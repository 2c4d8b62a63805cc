"""Variance of the policy gradient between samples, estimated on one layer.

Shapes: B samples, T tokens, D inputs and E outputs of the layer.

For a linear layer y = W x, sample i's gradient is G_i = Σ_t δ_it x_itᵀ, where δ = ∂loss/∂y. Its squared norm needs no
G_i: ‖G_i‖² = Σ_tt' (x_it · x_it')(δ_it · δ_it'). With n samples in an optimizer step and g_i = n G_i, so that the
step's gradient is the mean ḡ of the g_i, the unbiased estimate of the variance of one sample's gradient, summed over
the layer's weights, is

    (Σ_i ‖g_i‖² − n ‖ḡ‖²) / (n − 1).

The layer is the output projection of the last attention: its outputs reach the loss through one MLP and the head only,
so δ is zero except where tokens are predicted, and every decoder has this layer, with inputs of shape (B, T, D). With
LoRA the estimate uses the frozen weight beneath the adapter and the gradient that this weight would get.

Left out on purpose: gradients of all weights per sample, which cost a backward pass each. The samples of a group are
not independent, since their advantages sum to zero, so compare only runs with the same number of rollouts per prompt.
"""

from typing import Any

import torch
from torch import nn

from rolewise.core.errors import InputError


class GradientVariance:
    """Observes a model's backward passes and accumulates the sums for the estimate.

    Args:
        model: the policy, not yet wrapped for several processes.

    Raises:
        InputError: if the model has no linear layer in an attention.
    """

    def __init__(self, model: nn.Module) -> None:
        self._samples = 0
        self._square_norms: torch.Tensor | float = 0.0
        self._total_ED: torch.Tensor | float = 0.0
        _attention_output(model).register_forward_hook(self._watch)

    def take(self, accelerator: Any) -> dict[str, float]:
        """Return the estimates of an optimizer step, over all processes; empty if it had fewer than two samples.

        Keys: `policy_gradient/variance` (as above) and `policy_gradient/square_norm` (‖ḡ‖²).
        """
        sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
        sums[0], sums[1] = self._samples, self._square_norms
        total_ED = self._total_ED
        self._samples, self._square_norms, self._total_ED = 0, 0.0, 0.0
        if not isinstance(total_ED, torch.Tensor):
            return {}
        samples, square_norms = accelerator.reduce(sums, reduction="sum").tolist()
        # Processes average their gradients, so the G_i of each count 1 / P.
        processes = accelerator.num_processes
        mean_square = float(accelerator.reduce(total_ED, reduction="sum").square().sum()) / processes**2
        if samples < 2:
            return {}
        squares = square_norms * (samples / processes) ** 2
        variance = (squares - samples * mean_square) / (samples - 1)
        return {"policy_gradient/variance": variance, "policy_gradient/square_norm": mean_square}

    def _watch(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if torch.is_grad_enabled() and layer.training and output.requires_grad:
            x_BTD = inputs[0].detach()
            output.register_hook(lambda delta_BTE: self._add(x_BTD, delta_BTE))

    def _add(self, x_BTD: torch.Tensor, delta_BTE: torch.Tensor) -> None:
        predicting_T = delta_BTE.abs().amax(dim=(0, 2)) > 0
        x_BTD, delta_BTE = x_BTD[:, predicting_T].float(), delta_BTE[:, predicting_T].float()
        gram_BTT = (x_BTD @ x_BTD.mT) * (delta_BTE @ delta_BTE.mT)
        self._samples += len(x_BTD)
        self._square_norms = self._square_norms + gram_BTT.sum(dtype=torch.float64)
        self._total_ED = self._total_ED + torch.einsum("bte,btd->ed", delta_BTE, x_BTD)


def _attention_output(model: nn.Module) -> nn.Linear:
    """Return the last linear layer within an attention, apart from those that LoRA adds."""
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "attn" in name.lower().replace("attention", "attn") and "lora_" not in name
    ]
    if not found:
        raise InputError(
            "gradient_variance finds no linear layer in an attention of this model; leave gradient_variance out"
        )
    return found[-1]
