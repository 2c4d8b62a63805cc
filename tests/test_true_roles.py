"""The plugin experiments/true_roles.py: the roles that conversations were generated with, as a labeller."""

from pathlib import Path

import numpy as np
import pytest
from workbench import Workbench

from rolewise import generate, write_conversations
from rolewise.cli.main import main
from rolewise.core.role import Role
from rolewise.data.labelled import load_labelled

PLUGIN = Path(__file__).parent.parent / "experiments" / "true_roles.py"

pytestmark = pytest.mark.usefixtures("registries")


def label(bench: Workbench, data: Path, output: Path) -> int:
    arguments = ["label", "--method", "shad", "--model", bench.model, "--data", data, "--output", output]
    return main([str(part) for part in [*arguments, "--method", "truth", "--plugin", PLUGIN]])


def test_the_labels_are_the_roles_that_were_generated(bench: Workbench, tmp_path: Path) -> None:
    data = tmp_path / "conversations.jsonl"
    write_conversations(generate(6, seed=3), data)
    assert label(bench, data, tmp_path / "labelled") == 0
    labelled = load_labelled(str(tmp_path / "labelled"))
    assert len(labelled.rows) == 6
    seen = set()
    for sample in labelled.samples():
        assert np.array_equal(sample.roles_T, sample.true_roles_T)
        assert np.array_equal(sample.roles_T != Role.CONTEXT, sample.mask_T)
        seen |= set(sample.roles_T.tolist())
    assert {Role.REASONING, Role.FORMAT} <= seen


def test_conversations_of_unknown_roles_are_refused(bench: Workbench, tmp_path: Path, capsys) -> None:
    data = tmp_path / "chat.jsonl"
    data.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n')
    assert label(bench, data, tmp_path / "labelled") == 2
    assert "its true roles are not known" in capsys.readouterr().err
    assert not (tmp_path / "labelled").exists()
