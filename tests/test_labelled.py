"""The labelled data set: what is in it, that it is aligned, and that it opens for whoever may open it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import options_of
from datasets import Dataset, List, Value, load_from_disk
from rich.progress import Progress
from workbench import Workbench, files_of, lasting_files_of, tiny_tokenizer

from rolewise import relabel
from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import INFO_FILE, load_labelled
from rolewise.data.render import Renderer, tokenizer_fingerprint
from rolewise.jobs.label import label
from rolewise.jobs.label_result import LabelResult
from rolewise.labelling.checks import check_labels
from rolewise.labelling.classify import classify
from rolewise.options.labelling import LabelOptions


def run_label(bench: Workbench, output: Path, **options: object) -> LabelResult:
    own = {} if "method" in options else {"method": "shad", "min_pairs": 8}
    settings = {**own, "max_length": 1024, **options}
    return label(
        options_of(LabelOptions, model=str(bench.model), data=str(bench.data), output=str(output), **settings),
        Progress(disable=True),
    )


@pytest.fixture(scope="module")
def labelled(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench's conversations, labelled by SHAD."""
    return run_label(bench, tmp_path_factory.mktemp("labelled") / "labelled").path


@pytest.fixture(scope="module")
def rows(labelled: Path) -> Dataset:
    return load_from_disk(str(labelled))


def test_opens_with_datasets_alone_and_has_the_promised_columns(rows):
    per_token = {"input_ids": "int32", "labels": "int32", "token_roles": "uint8", "base_loss": "float32"}
    per_token |= {"tuned_loss": "float32", "char_start": "int32", "char_end": "int32", "true_roles": "uint8"}
    expected = {name: List(Value(kind)) for name, kind in per_token.items()}
    expected |= {"text": Value("string"), "source": Value("string"), "excluded": Value("bool")}
    expected |= {"conversation": Value("string")}
    assert dict(rows.features) == expected
    assert len(rows) == 24
    for row in rows:
        assert {len(row[name]) for name in per_token} == {len(row["input_ids"])}


def test_ids_of_each_role_decode_to_the_text_at_their_offsets(bench, rows):
    tokenizer = bench.tokenizer()
    for row in rows:
        roles = np.array(row["token_roles"])
        for role in np.unique(roles):
            for start, end in runs_of(roles == role):
                text = row["text"][row["char_start"][start] : row["char_end"][end - 1]]
                assert tokenizer.decode(row["input_ids"][start:end]) == text


def runs_of(mask_T: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask_T.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def test_labels_roles_and_losses_cover_the_assistants_words_and_nothing_else(bench, rows):
    for row, line in zip(rows, bench.data.read_text(encoding="utf-8").splitlines(), strict=True):
        labels, ids = np.array(row["labels"]), np.array(row["input_ids"])
        mask = labels != -100
        assert (labels[mask] == ids[mask]).all()
        said = [row["text"][row["char_start"][a] : row["char_end"][b - 1]] for a, b in runs_of(mask)]
        messages = json.loads(line)["messages"]
        assert said == [m["content"] + "<|im_end|>" for m in messages if m["role"] == "assistant"]
        roles = np.array(row["token_roles"])
        assert ((roles != Role.CONTEXT) == mask).all()
        for name in ("base_loss", "tuned_loss"):
            assert (np.isfinite(np.array(row[name], dtype=float)) == mask).all()
        difference = np.array(row["tuned_loss"], dtype=np.float32) - np.array(row["base_loss"], dtype=np.float32)
        assert ((roles == Role.REASONING) == (mask & (difference > 0))).all()


def test_rolewise_json_says_how_it_was_made(bench, labelled, rows):
    info = json.loads((labelled / INFO_FILE).read_text(encoding="utf-8"))
    assert info["method"] == "shad"
    assert info["model"] == str(bench.model)
    assert info["tokenizer"] == tokenizer_fingerprint(bench.tokenizer())
    assert info["rendering"] == Renderer(bench.tokenizer()).fingerprint()
    assert len(info["model_hash"]) == 64
    assert (info["threshold"], info["format_quantile"]) == (0.0, 0.5)
    assert info["role_names"] == {str(int(role)): role.label for role in Role}
    assert info["settings"]["min_pairs"] == 8
    assert len(info["settings"]["data_sha256"]) == 64
    assert {"python", "rolewise", "torch", "transformers"} <= info["versions"].keys()
    counts = info["counts"]
    roles = np.concatenate(rows["token_roles"])
    assert counts["samples"] == 24
    assert counts["tokens"] == len(roles)
    assert counts["loss_tokens"] == (roles != Role.CONTEXT).sum()
    for role in set(Role) - {Role.CONTEXT}:
        assert counts[role.label] == (roles == role).sum()


def test_two_runs_are_equal_byte_for_byte_and_no_path_of_the_output_or_the_data_is_in_them(bench, labelled, tmp_path):
    elsewhere = tmp_path / "elsewhere" / bench.data.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(bench.data.read_bytes())
    second = lasting_files_of(run_label(replace(bench, data=elsewhere), tmp_path / "labelled").path)
    first = lasting_files_of(labelled)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["config.yaml"]


def test_refused_for_another_tokenizer_in_one_line(labelled):
    other = tiny_tokenizer(["quite another text"], vocab_size=300)
    with pytest.raises(InputError, match=r"labelled with the tokenizer of .* label the data again") as refusal:
        load_labelled(labelled, tokenizer_fingerprint=tokenizer_fingerprint(other))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / INFO_FILE).unlink(), "no labelled data set here"),
        (lambda path: (path / INFO_FILE).write_text("{", encoding="utf-8"), "can't be read"),
        (lambda path: (path / INFO_FILE).write_text('{"method": "shad"}', encoding="utf-8"), "can't be read"),
        (lambda path: (path / "state.json").unlink(), "can't be read"),
        (lambda path: next(path.glob("*.arrow")).write_bytes(b"half"), "can't be read"),
    ],
    ids=["no info", "broken info", "other info", "no state", "broken rows"],
)
def test_a_damaged_data_set_is_refused_by_name(labelled, tmp_path, change, message):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in files_of(labelled).items():
        (copy / name).write_bytes(content)
    change(copy)
    with pytest.raises(InputError, match=f"copy: .*{message}"):
        load_labelled(copy)


class TestRelabel:
    def test_the_same_numbers_give_the_same_data(self, labelled, tmp_path):
        result = relabel(labelled, tmp_path / "same")
        data = sorted(name for name in files_of(labelled) if name.endswith(".arrow") or name == INFO_FILE)
        for name in data:
            assert (result.path / name).read_bytes() == (labelled / name).read_bytes()

    def test_another_threshold_equals_classifying_by_hand(self, labelled, rows, tmp_path):
        before = files_of(labelled)
        result = relabel(labelled, tmp_path / "other", threshold=0.02, format_quantile=None)
        for old, new in zip(rows, load_from_disk(str(result.path)), strict=True):
            changing = {"token_roles", "base_loss", "tuned_loss"}  # NaN losses are not equal to themselves
            assert all(new[name] == old[name] for name in old.keys() - changing)
            base, tuned = (np.array(old[name], dtype=np.float32) for name in ("base_loss", "tuned_loss"))
            np.testing.assert_array_equal(np.array(new["base_loss"], dtype=np.float32), base)
            np.testing.assert_array_equal(np.array(new["tuned_loss"], dtype=np.float32), tuned)
            mask = np.array(old["labels"]) != -100
            assert new["token_roles"] == classify(base, tuned, mask, 0.02).tolist()
        assert files_of(labelled) == before

        info = load_labelled(result.path).info
        old_info = load_labelled(labelled).info
        assert (info.threshold, info.format_quantile) == (0.02, None)
        assert (info.settings["threshold"], info.settings["format_quantile"]) == (0.02, None)
        assert (info.counts["format"], info.counts["template"]) == (0, 0)
        assert info.counts["reasoning"] < old_info.counts["reasoning"]
        assert info.counts["boilerplate"] + info.counts["reasoning"] == info.counts["loss_tokens"]
        assert {"report.html", "config.yaml", "run.json"} <= files_of(result.path).keys()

    def test_again_does_nothing_and_another_threshold_is_refused(self, labelled, tmp_path):
        assert not relabel(labelled, tmp_path / "out", threshold=0.1).was_finished
        before = files_of(tmp_path / "out")
        assert relabel(labelled, tmp_path / "out", threshold=0.1).was_finished
        with pytest.raises(InputError, match="holds a run with other settings"):
            relabel(labelled, tmp_path / "out", threshold=0.2)
        assert files_of(tmp_path / "out") == before

    def test_by_a_share_of_the_format_tokens(self, labelled, tmp_path):
        found = relabel(labelled, tmp_path / "found", format_error=0.05)
        check = check_labels(load_labelled(found.path))[0]
        assert check.errors <= 0.05 * check.tokens < check.errors + 1
        assert check.errors == found.checks.format.errors
        settings = found.info.settings
        assert (settings["format_error"], settings["threshold"]) == (0.05, found.info.threshold)
        assert "at most 5.0% of the sure format tokens above it" in (found.path / "report.html").read_text("utf-8")

        by_hand = relabel(labelled, tmp_path / "by-hand", threshold=found.info.threshold)
        assert load_from_disk(str(by_hand.path))["token_roles"] == load_from_disk(str(found.path))["token_roles"]
        assert "format_error" not in by_hand.info.settings
        assert relabel(found.path, tmp_path / "split", format_quantile=None).info.settings["format_error"] == 0.05
        assert "format_error" not in relabel(found.path, tmp_path / "moved", threshold=0.0).info.settings
        with pytest.raises(InputError, match="give threshold or format_error, not both"):
            relabel(labelled, tmp_path / "both", threshold=0.0, format_error=0.05)
        assert not (tmp_path / "both").exists()

    def test_without_losses_there_is_nothing_to_do(self, bench, tmp_path):
        regex = run_label(bench, tmp_path / "regex", method="regex").path
        with pytest.raises(InputError, match="labelled by regex, which measures no losses"):
            relabel(regex, tmp_path / "out")
        assert not list(tmp_path.glob("out*"))
