"""`rolewise view`: two labellings compared, and the fingerprint that patches name their data set by."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, load_from_disk
from rich.progress import Progress
from workbench import Workbench

from rolewise.cli.main import main
from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import INFO_FILE, labelled_fingerprint, load_labelled
from rolewise.evaluation.kappa import cohen_kappa, confusion_matrix, group_kappas
from rolewise.jobs.label import label
from rolewise.jobs.view import compare_labellings, view
from rolewise.options.labelling import LabelOptions, ViewOptions


@pytest.fixture(scope="module")
def first(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench's conversations, labelled by rules."""
    output = tmp_path_factory.mktemp("view") / "first"
    options = LabelOptions(model=str(bench.model), data=str(bench.data), output=str(output), method="regex")
    return label(options, Progress(disable=True)).path


def altered(source: Path, target: Path, change: Callable[[dict[str, Any], int], dict[str, Any]], **info: Any) -> Path:
    """A copy of a labelled data set whose rows went through `change`."""
    rows = load_from_disk(str(source)).map(change, with_indices=True)
    rows.save_to_disk(target)
    shutil.copy(source / INFO_FILE, target / INFO_FILE)
    fields = json.loads((target / INFO_FILE).read_text(encoding="utf-8"))
    (target / INFO_FILE).write_text(json.dumps(fields | info), encoding="utf-8")
    return target


def every_seventh_is_reasoning(row: dict[str, Any], number: int) -> dict[str, Any]:
    roles = [
        int(Role.REASONING) if label != -100 and i % 7 == number % 7 else role
        for i, (role, label) in enumerate(zip(row["token_roles"], row["labels"], strict=True))
    ]
    return {"token_roles": roles}


@pytest.fixture(scope="module")
def second(first: Path) -> Path:
    return altered(first, first.parent / "second", every_seventh_is_reasoning)


def page_data(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found
    data = json.loads(found[1])
    assert isinstance(data, dict)
    return data


def test_confusion_is_counted_over_all_loss_tokens(first: Path, second: Path) -> None:
    expected = np.zeros((len(Role), len(Role)), dtype=int)
    for row_a, row_b in zip(load_from_disk(str(first)), load_from_disk(str(second)), strict=True):
        for a, b, kept in zip(row_a["token_roles"], row_b["token_roles"], row_a["labels"], strict=True):
            if kept != -100:
                expected[a, b] += 1
    matrix = compare_labellings(load_labelled(first), load_labelled(second))
    assert (matrix == expected).all()
    assert 0 < np.trace(matrix) < matrix.sum()


def test_view_shows_both_labellings_with_their_agreement(first: Path, second: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    assert view(ViewOptions(data=str(first), compare=str(second), output=str(output), samples=5)) == output
    data = page_data(output)
    assert data["names"] == [str(first), str(second)]
    assert data["fingerprint"] == labelled_fingerprint(load_labelled(first).rows)
    rows_b = load_from_disk(str(second))
    assert len(data["samples"]) == 5
    for packed, row in zip(data["samples"], rows_b.select(range(5)), strict=True):
        assert packed["text"] == row["text"]
        roles_b = packed["labels"][1]["roles"]
        assert list(base64.b64decode(roles_b[1:])) == row["token_roles"]
    page = output.read_text(encoding="utf-8")
    kappa = cohen_kappa(compare_labellings(load_labelled(first), load_labelled(second)))
    assert f"<td>all roles</td><td>{kappa:.3f}</td>" in page
    matrix = compare_labellings(load_labelled(first), load_labelled(second))
    assert f"{matrix[Role.FORMAT, Role.REASONING]:,}</td>" in page


def drop_last_token(row: dict[str, Any], number: int) -> dict[str, Any]:
    return {"input_ids": row["input_ids"][:-1]} if number == 3 else {}


def mask_everything(row: dict[str, Any], number: int) -> dict[str, Any]:
    return {"labels": [-100] * len(row["labels"])} if number == 2 else {}


@pytest.mark.usefixtures("registries")
def test_view_shows_the_weights_of_a_plugin(first: Path, tmp_path: Path) -> None:
    plugin = Path(__file__).parents[1] / "examples" / "extending" / "my_weighting.py"
    page = tmp_path / "page.html"
    options = ["--data", first, "--output", page, "--weighting", "turn-decay", "--plugin", plugin]
    assert main(["view", *map(str, options)]) == 0
    assert page.is_file()


def test_labellings_of_other_tokens_are_refused(first: Path, tmp_path: Path, capsys: Any) -> None:
    cases = [
        (altered(first, tmp_path / "cut", drop_last_token), r"cut: row 3 \(.*\) differs in tokens from .*first; "),
        (altered(first, tmp_path / "masked", mask_everything), r"masked: row 2 \(.*\) differs in loss mask from "),
        (altered(first, tmp_path / "foreign", lambda row, _: {}, tokenizer="0" * 16), "foreign: labelled with another"),
    ]
    load_from_disk(str(first)).select(range(7)).save_to_disk(tmp_path / "short")
    shutil.copy(first / INFO_FILE, tmp_path / "short" / INFO_FILE)
    cases.append((tmp_path / "short", "short: 7 samples, but .*first has 24; "))
    for other, message in cases:
        with pytest.raises(InputError, match=message):
            compare_labellings(load_labelled(first), load_labelled(other))
    output = tmp_path / "page.html"
    arguments = ["view", "--data", str(first), "--compare", str(tmp_path / "short"), "--output", str(output)]
    assert main(arguments) != 0
    told = capsys.readouterr().err
    assert "7 samples, but" in told
    assert "Traceback" not in told
    assert not output.exists()


def kappa_by_hand(pairs: list[tuple[bool, bool]]) -> float:
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    yes_a, yes_b = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    expected = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
    return (observed - expected) / (1 - expected)


def test_kappa_per_group_against_counting_by_hand() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(1, 6, 500)
    b = np.where(rng.random(500) < 0.6, a, rng.integers(1, 6, 500))
    found = group_kappas(confusion_matrix(a, b))
    assert set(found) == {Role.PLAIN, Role.REASONING, Role.BOILERPLATE}
    for group, kappa in found.items():
        pairs = [(Role(x).group is group, Role(y).group is group) for x, y in zip(a, b, strict=True)]
        assert kappa == pytest.approx(kappa_by_hand(pairs))


def test_kappa_of_clear_cases() -> None:
    # Cohen's measure for 2 × 2: p_o = 0.7, p_e = 0.5.
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohen_kappa(np.diag([3, 4])) == 1
    assert np.isnan(cohen_kappa(np.diag([7, 0])))
    assert np.isnan(cohen_kappa(np.zeros((2, 2), dtype=int)))


def test_fingerprint_tells_tokens_apart_and_ignores_labels(first: Path, second: Path) -> None:
    of_ids = [[1, 2], [3], [], list(range(70_000, 70_010))]

    def fingerprint(ids: list[list[int]], **more: Any) -> str:
        return labelled_fingerprint(Dataset.from_dict({"input_ids": ids, **more}))

    same = fingerprint(of_ids)
    assert re.fullmatch("[0-9a-f]{16}", same)
    assert fingerprint(of_ids, token_roles=[[2, 2], [2], [], [3] * 10]) == same
    assert fingerprint([*of_ids, [4]]) != same
    assert fingerprint([[1], [2, 3], [], of_ids[3]]) != same  # the same ids, cut elsewhere
    assert fingerprint([[1, 2], [4], [], of_ids[3]]) != same
    assert labelled_fingerprint(Dataset.from_dict({"input_ids": [*of_ids, [9]]}).select(range(4))) == same
    rows = load_labelled(first).rows
    assert labelled_fingerprint(rows) == labelled_fingerprint(load_labelled(second).rows)
    assert labelled_fingerprint(rows) != labelled_fingerprint(rows.select(range(23)))
