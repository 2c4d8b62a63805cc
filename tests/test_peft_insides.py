"""What Rolewise relies on in PEFT's insides; a failure here says what moved."""

from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny import tiny_model

from rolewise.core.peft_insides import adapter_state, trains_single_rows


def test_layers_say_which_adapters_act_on_them() -> None:
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    assert len(layers) == 2, "adapted layers are no longer of kind BaseTunerLayer"
    states = [adapter_state(model)]
    with model.disable_adapter():
        states.append(adapter_state(model))
    assert adapter_state(model) == states[0]
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    model.set_adapter("second")
    states.append(adapter_state(model))
    model.merge_adapter()
    states.append(adapter_state(model))
    assert len(set(states)) == 4, "BaseTunerLayer no longer tells that adapters were turned off, switched or merged"


def test_a_head_of_which_single_rows_are_trained_is_a_stand_in_with_a_weight_and_no_bias() -> None:
    model = tiny_model()
    assert not trains_single_rows(model.get_output_embeddings())
    tuned = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices={"lm_head": [3, 4]})
    )
    head = tuned.get_output_embeddings()
    assert trains_single_rows(head), "PEFT's stand-in for the head is of another kind"
    assert head.weight.shape == (203, 32), "PEFT's stand-in no longer gives the whole weight"
