"""Labels on another tokenizer's tokens, judged character by character."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_sets import make_labelled
from workbench import tiny_tokenizer

from rolewise import InputError, TransferOptions, relabel, transfer_labels
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.data.conversation import Conversation
from rolewise.data.labelled import LabelledData, load_labelled
from rolewise.data.transfer import align, majority_roles
from rolewise.generator import generate

# Other headers than ChatML's, content trimmed, calls in a form of its own, another end of turn.
OTHER = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ '\n\n' + (m['content'] or '') | trim }}"
    "{% for call in m['tool_calls'] or [] %}[{{ call['function']['name'] }}] "
    "{{ call['function']['arguments'] | tojson }}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
# Shows the thinking of the last turn only, so each turn needs a rendering of its own.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln am Rhein"}}}


def chat(*pairs: tuple[str, str]) -> Conversation:
    messages = [m for q, a in pairs for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    return Conversation(messages, source="chat.jsonl:1")


@pytest.fixture(scope="module")
def conversations():
    return generate(8, seed=3)


@pytest.fixture(scope="module")
def first(conversations):
    return tiny_tokenizer([str(m["content"]) for c in conversations for m in c.messages])


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Directory of another tokenizer: coarser in other places, with another template."""
    tokenizer = tiny_tokenizer(["the weather in Köln and the price of a ticket are asked for"] * 3, vocab_size=290)
    tokenizer.chat_template = OTHER
    path = tmp_path_factory.mktemp("second")
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def labelled(conversations, first, tmp_path_factory):
    return make_labelled(tmp_path_factory.mktemp("set") / "labelled", first, conversations)


def moved(labelled: LabelledData, model: Path, output: Path, **options: object) -> LabelledData:
    result = transfer_labels(
        TransferOptions(model=str(model), data=str(labelled.path), output=str(output), **options)  # type: ignore[arg-type]
    )
    return load_labelled(result.path)


def saved(tokenizer, path: Path, template: str | None = None) -> Path:
    if template is not None:
        tokenizer = tiny_tokenizer(["a b c"], vocab_size=300)
        tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    return path


def slow_majority(roles: list[int]) -> int:
    """The documented rule, for the characters of one token."""
    known = [Role(role) for role in roles if role != Role.CONTEXT]
    if not known:
        return Role.PLAIN
    groups = Counter(Role.BOILERPLATE if role in BOILERPLATE_ROLES else role for role in known)
    order = [Role.REASONING, Role.BOILERPLATE, Role.PLAIN]
    group = max(order, key=lambda role: (groups[role], -order.index(role)))
    if group != Role.BOILERPLATE:
        return group
    kinds = Counter(role for role in known if role in BOILERPLATE_ROLES)
    return max(sorted(kinds), key=lambda role: kinds[role])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.data())
def test_majority_equals_counting_by_hand(roles, data):
    spans = [sorted(data.draw(st.tuples(*[st.integers(0, len(roles))] * 2))) for _ in range(5)]
    start, end = np.array(spans, dtype=np.int32).T
    expected = [slow_majority(roles[a:b]) for a, b in spans]
    assert majority_roles(np.array(roles), start, end).tolist() == expected


@given(st.text("ab \n{", max_size=40), st.text("ab \n{", max_size=40))
def test_aligned_blocks_are_equal_and_in_order(old, new):
    at_old = at_new = 0
    for block in align(old, new):
        assert block.size > 0
        assert block.old >= at_old
        assert block.new >= at_new
        at_old, at_new = block.old + block.size, block.new + block.size
        assert old[block.old : at_old] == new[block.new : at_new]
    assert at_old <= len(old)
    assert at_new <= len(new)


def test_alignment_finds_content_between_two_changes():
    content = "\n".join(f"line {i} of the answer" for i in range(30))
    old, new = f"<think>{content}\n<call>f(1)</call>", f" \n\n{content}\n[f] 1!"
    shared = "".join(old[b.old : b.old + b.size] for b in align(old, new))
    assert content[len("line 0 of the answer") :] in shared


class TestTransfer:
    def test_each_token_of_the_content_has_the_role_of_most_of_its_characters(
        self, labelled, second, tmp_path, conversations
    ):
        new_set = moved(labelled, second, tmp_path / "moved")
        assert len(new_set.rows) == len(conversations)
        checked = 0
        for conversation, old, new in zip(conversations, labelled.samples(), new_set.samples(), strict=True):
            old_from = new_from = 0
            for message in conversation.messages:
                content = message["content"].strip()
                old_from, new_from = old.text.index(content, old_from), new.text.index(content, new_from)
                if message["role"] == "assistant":
                    roles = [Role.CONTEXT] * len(content)
                    for t, (a, b) in enumerate(zip(old.char_start_T, old.char_end_T, strict=True)):
                        for c in range(max(a, old_from), min(b, old_from + len(content))):
                            if roles[c - old_from] == Role.CONTEXT:
                                roles[c - old_from] = Role(int(old.roles_T[t]))
                    for t, (a, b) in enumerate(
                        zip(new.char_start_T - new_from, new.char_end_T - new_from, strict=True)
                    ):
                        if a >= 0 and b <= len(content):
                            assert new.mask_T[t]
                            assert new.roles_T[t] == slow_majority(roles[a:b])
                            checked += 1
                old_from, new_from = old_from + len(content), new_from + len(content)
            assert ((new.roles_T == Role.CONTEXT) == ~new.mask_T).all()
        assert checked > 500
        assert {Role.REASONING, Role.FORMAT, Role.TEMPLATE} <= {int(r) for s in new_set.samples() for r in s.roles_T}

    def test_to_the_same_tokenizer_nothing_changes(self, labelled, first, tmp_path):
        same = moved(labelled, saved(first, tmp_path / "model"), tmp_path / "same")
        columns = ["input_ids", "labels", "token_roles", "base_loss", "tuned_loss", "true_roles", "char_start"]
        for name in columns:
            for before, after in zip(
                labelled.rows.with_format("numpy")[name], same.rows.with_format("numpy")[name], strict=True
            ):
                np.testing.assert_array_equal(before, after, err_msg=name)
        assert same.rows["conversation"][:] == labelled.rows["conversation"][:]
        assert same.info.counts == labelled.info.counts

    def test_losses_stay_only_with_the_very_same_characters(self, labelled, second, tmp_path):
        kept = 0
        for old, new in zip(labelled.samples(), moved(labelled, second, tmp_path / "moved").samples(), strict=True):
            before = {
                (old.text[a:b], float(loss))
                for a, b, loss in zip(old.char_start_T, old.char_end_T, old.base_loss_T, strict=True)
            }
            for t in np.flatnonzero(~np.isnan(new.base_loss_T)):
                assert new.mask_T[t]
                assert (new.text[new.char_start_T[t] : new.char_end_T[t]], float(new.base_loss_T[t])) in before
                kept += 1
        assert 0 < kept < sum(int(new.mask_T.sum()) for new in labelled.samples())

    def test_what_both_templates_write_of_a_call_travels_and_the_rest_is_plain(self, first, second, tmp_path):
        conversation = Conversation(
            [
                {"role": "user", "content": "weather?"},
                {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
                {"role": "tool", "content": "rain"},
                {"role": "assistant", "content": "Rain."},
            ],
            source="calls.jsonl:1",
        )
        labelled = make_labelled(tmp_path / "set", first, [conversation])
        (old,), (new,) = labelled.samples(), moved(labelled, second, tmp_path / "moved").samples()
        assert "[get_weather] {" in new.text
        for words in ("I look.", "get_weather", "Köln am Rhein", "Rain."):
            at = new.text.rindex(words)
            inside = (new.char_start_T >= at) & (new.char_end_T <= at + len(words))
            assert inside.any()
            assert (new.roles_T[inside] != Role.PLAIN).all(), words
        bracket = new.char_start_T == new.text.index("[get")
        assert new.roles_T[bracket].tolist() == [Role.PLAIN]
        ends = [t for t in np.flatnonzero(new.mask_T) if new.text[new.char_start_T[t] :].startswith("<|im_end|>")]
        old_ends = [t for t in np.flatnonzero(old.mask_T) if old.text[old.char_start_T[t] :].startswith("<|im_end|>")]
        assert new.roles_T[ends].tolist() == old.roles_T[old_ends].tolist()

    def test_a_row_trains_the_turns_that_it_trained(self, first, tmp_path):
        talk = chat(("one?", "<think>a b</think>first answer"), ("two?", "<think>c d</think>second answer"))
        whole = make_labelled(tmp_path / "whole", first, [talk])
        per_turn = moved(whole, saved(first, tmp_path / "forgetful", FORGETFUL), tmp_path / "per-turn")
        assert len(per_turn.rows) == 2
        answers = [
            "".join(s.text[a:b] for a, b in s.turn_char_spans).removesuffix("<|im_end|>") for s in per_turn.samples()
        ]
        assert answers == ["<think>a b</think>first answer", "<think>c d</think>second answer"]
        back = moved(per_turn, saved(first, tmp_path / "first"), tmp_path / "back")
        (before,) = whole.samples()
        for row, turn in zip(back.samples(), before.turn_char_spans, strict=True):
            assert [row.text[a:b] for a, b in row.turn_char_spans] == [before.text[slice(*turn)]]

    def test_nothing_is_trained_beyond_a_cut(self, first, second, tmp_path):
        answer = " ".join(f"word{i}" for i in range(60))
        cut = make_labelled(tmp_path / "cut", first, [chat(("q?", answer))], max_length=70)
        (old,), (new,) = cut.samples(), moved(cut, second, tmp_path / "moved").samples()
        last = int(new.char_end_T[np.flatnonzero(new.mask_T)[-1]])
        known = old.text[old.text.index("word0") :]
        assert len(known) < len(answer)
        assert new.text[new.text.index("word0") : last] in (known, answer[: len(known) + 1])
        assert (new.roles_T[new.mask_T] != Role.PLAIN).all()

    def test_says_where_the_roles_come_from_and_refuses_other_thresholds(self, labelled, second, tmp_path):
        info = moved(labelled, second, tmp_path / "moved").info
        assert info.method == "transfer"
        assert info.settings["transferred_from"]["model"] == "someone/model"
        with pytest.raises(InputError, match="labelled by transfer, which measures no losses"):
            relabel(tmp_path / "moved", tmp_path / "again", threshold=0.2)

    def test_a_set_without_conversations_is_refused(self, labelled, second, tmp_path):
        old = tmp_path / "old"
        labelled.rows.remove_columns("conversation").save_to_disk(old)
        (old / "rolewise.json").write_bytes((labelled.path / "rolewise.json").read_bytes())
        with pytest.raises(InputError, match=r"old: contains no conversations .* label the data again"):
            moved(load_labelled(old), second, tmp_path / "moved")
        assert not list(tmp_path.glob("moved*"))

    def test_rows_that_the_template_refuses(self, first, tmp_path):
        picky = "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}" + OTHER
        model = saved(first, tmp_path / "picky", picky)
        mixed = make_labelled(tmp_path / "set", first, [chat(("fine", "a")), chat(("bad", "b"))])
        with pytest.raises(InputError, match=r"chat.jsonl:1: the chat template fails: no"):
            moved(mixed, model, tmp_path / "strict")
        assert len(moved(mixed, model, tmp_path / "lenient", skip_invalid=True).rows) == 1

    def test_answers_that_its_length_cuts_are_counted_or_left_out(self, first, second, tmp_path):
        long = " ".join(f"word{i}" for i in range(60))
        data = make_labelled(tmp_path / "set", first, [chat(("q?", long)), chat((long, "a")), chat(("q?", "a"))])
        with pytest.raises(InputError, match=r"chat.jsonl:1: no assistant token left .* --skip-invalid"):
            moved(data, second, tmp_path / "strict", max_length=70)
        counted = moved(data, second, tmp_path / "counted", max_length=70, skip_invalid=True)
        assert len(counted.rows) == 2
        whole = moved(data, second, tmp_path / "whole")
        lost = int(next(whole.samples()).mask_T.sum() - next(counted.samples()).mask_T.sum())
        assert any(
            note.startswith(f"max_length 70 cuts the answers of 1 of 2 samples: {lost} tokens")
            for note in counted.info.notes
        )
        left_out = [note for note in counted.info.notes if note.startswith("left out:")]
        assert left_out == ["left out: chat.jsonl:1: no assistant token left after cutting to max_length=70"]
        uncut = moved(data, second, tmp_path / "uncut", max_length=70, skip_cut=True)
        assert len(uncut.rows) == 1
        assert not any("cuts the answers" in note for note in uncut.info.notes)
        reasons = [json.loads(line)["reason"] for line in (uncut.path / "rejected.jsonl").read_text().splitlines()]
        assert reasons[0] == f"max_length 70 cuts its answer: {lost} tokens with loss would be lost"
        assert len(reasons) == 2

    def test_what_the_rendering_brings_to_light_is_said(self, first, tmp_path):
        talk = chat(("one?", "<think>a b</think>first answer"), ("two?", "<think>c d</think>second answer"))
        whole = make_labelled(tmp_path / "whole", first, [talk, talk])
        notes = moved(whole, saved(first, tmp_path / "forgetful", FORGETFUL), tmp_path / "per-turn").info.notes
        assert sum("separate sample" in note for note in notes) == 1
