"""Answers end where the model's own settings say, not only at the tokenizer's end of text."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from workbench import Workbench

from rolewise.training.generation import generate_texts, stop_at_turn_ends


def test_answers_end_at_the_models_own_end_of_turn(bench: Workbench) -> None:
    """Gemma, for one, ends a turn with `<end_of_turn>`, while its tokenizer's end is `<eos>`."""
    tokenizer = bench.tokenizer()
    model = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32).eval()
    prompts = [tokenizer.encode("Which tool"), tokenizer.encode("The user asks for")]
    model.generation_config.eos_token_id = None
    free = generate_texts(model, tokenizer, prompts, 12)
    with torch.no_grad():
        first_of = [int(model(torch.tensor([prompt])).logits[0, -1].argmax()) for prompt in prompts]
    assert all(free)
    assert first_of[0] != first_of[1]
    assert tokenizer.eos_token_id not in first_of
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, first_of[0]]
    ended = generate_texts(model, tokenizer, prompts, 12)
    assert ended[0] == ""
    assert ended[1]
    assert free[1].startswith(ended[1].rstrip("\ufffd"))  # the end may have cut a character in two


def test_a_tuned_model_stops_where_the_turns_of_its_data_end(bench: Workbench) -> None:
    tokenizer = bench.tokenizer()
    model = AutoModelForCausalLM.from_pretrained(bench.model)
    model.generation_config.eos_token_id = 5
    other, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    tokenizer.eos_token = "<|im_start|>"  # the text ends with another token than a turn, as in many base models
    rows = Dataset.from_dict(
        {
            "input_ids": [[7, 8, 9, end, 7, 9, end], [7, 8, 9, 9]],  # the second was cut, its turn has no end
            "labels": [[-100, 8, 9, end, -100, 9, end], [-100, 8, 9, 9]],
        }
    )
    stop_at_turn_ends(model, tokenizer, rows)
    assert model.generation_config.eos_token_id == [end, 5, other]
