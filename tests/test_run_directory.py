"""Run directories: results are written atomically, a killed run resumes, and nothing of others is touched."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from rolewise.core.errors import InputError
from rolewise.core.files import atomic_path, write_text
from rolewise.core.run_directory import RunDirectory


def run_at(output: Path, seed: int = 0) -> RunDirectory:
    return RunDirectory(output, "label", {"seed": seed, "output": str(output)}, {"seed": seed})


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk looks like to the process, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestRun:
    def test_results_appear_in_one_step_with_what_made_them(self, tmp_path):
        run = run_at(tmp_path / "out")
        assert not run.finished()
        assert run.open() is False
        with run.timed("work"):
            write_text(run.results / "result", "42")
        assert not run.output.exists()
        run.publish({"answer": 42})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
        assert (run.output / "result").read_text() == "42"
        assert yaml.safe_load((run.output / "config.yaml").read_text()) == {"seed": 0, "output": str(tmp_path / "out")}
        facts = json.loads((run.output / "run.json").read_text())
        assert facts["answer"] == 42
        assert "work" in facts["seconds"]
        assert "torch" in facts["versions"]
        assert run_at(tmp_path / "out").finished()

    def test_an_interrupted_run_goes_on_with_its_work_but_not_with_half_made_results(self, tmp_path):
        run = run_at(tmp_path / "out")
        run.open()
        write_text(run.work / "finished", "keep")
        (run.work / ".losses.npz.x.tmp").write_text("half")
        (run.results / "half").write_text("half")
        del run  # its lock goes with it, as with a killed process
        again = run_at(tmp_path / "out")
        assert again.open() is True
        assert [path.name for path in again.work.iterdir()] == ["finished"]
        assert list(again.results.iterdir()) == []

    def test_killed_before_the_first_note_it_starts_again(self, tmp_path):
        (tmp_path / "out.partial").mkdir()
        assert run_at(tmp_path / "out").open() is False

    def test_a_leftover_beside_a_published_run_is_cleared_away(self, tmp_path):
        run = run_at(tmp_path / "out")
        run.open()
        run.publish({})
        (tmp_path / "out.partial").mkdir()
        assert run_at(tmp_path / "out").finished()
        assert not (tmp_path / "out.partial").exists()

    @pytest.mark.parametrize("content", [None, "", "{}", "[]", '"text"'])
    def test_a_place_taken_by_something_else_is_refused_and_left_alone(self, tmp_path, content):
        output = tmp_path / "out"
        output.mkdir()
        if content is not None:
            (output / "run.json").write_text(content)
        before = sorted(output.iterdir())
        with pytest.raises(InputError, match="already exists; choose another output"):
            run_at(output).finished()
        assert sorted(output.iterdir()) == before

    def test_a_file_in_the_way_is_refused(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(InputError, match="already exists"):
            run_at(tmp_path / "out").finished()
        assert (tmp_path / "out").read_text() == "mine"

    def test_other_settings_are_refused_finished_or_not(self, tmp_path):
        run = run_at(tmp_path / "out")
        run.open()
        with pytest.raises(InputError, match="unfinished run with other settings"):
            run_at(tmp_path / "out", seed=1).open()
        run.publish({})
        with pytest.raises(InputError, match="holds a run with other settings"):
            run_at(tmp_path / "out", seed=1).finished()

    def test_a_moved_run_is_still_the_same_run(self, tmp_path):
        run = run_at(tmp_path / "out")
        run.open()
        run.publish({})
        run.output.rename(tmp_path / "moved")
        assert run_at(tmp_path / "moved").finished()

    @pytest.mark.parametrize("name", [".", "/", ""])
    def test_an_output_without_a_name_is_refused(self, name):
        with pytest.raises(InputError, match="has no name of its own"):
            run_at(Path(name))

    def test_a_failure_leaves_nothing_behind_unless_work_was_done(self, tmp_path):
        with pytest.raises(ZeroDivisionError), run_at(tmp_path / "idle").opened():
            raise ZeroDivisionError
        assert list(tmp_path.iterdir()) == []
        run = run_at(tmp_path / "busy")
        run.open()
        write_text(run.work / "finished", "keep")
        with pytest.raises(ZeroDivisionError), run.opened():
            raise ZeroDivisionError
        assert (tmp_path / "busy.partial" / "work" / "finished").read_text() == "keep"

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory that nobody can write to")
    def test_a_parent_that_cannot_be_written_is_named(self):
        with pytest.raises(InputError, match=r"/proc/no/out\.partial: cannot write"):
            run_at(Path("/proc/no/out")).open()

    def test_a_parent_that_is_a_file_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"out\.partial: cannot write: Not a directory"):
            run_at(tmp_path / "file" / "out").open()


class TestAtomicFiles:
    def test_a_failure_keeps_the_old_file_and_no_temporary_one(self, tmp_path):
        path = tmp_path / "file"
        write_text(path, "old")
        with pytest.raises(TypeError), atomic_path(path) as temporary:
            temporary.write_bytes(b"half" + None)  # type: ignore[operator]
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

    def test_a_full_disk_is_one_line_that_names_the_file(self, tmp_path):
        path = tmp_path / "file"
        write_text(path, "old")
        with file_size_limit(1000), pytest.raises(InputError, match="file: cannot write: File too large") as refusal:
            write_text(path, "x" * 5000)
        assert "\n" not in str(refusal.value)
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

    def test_results_can_be_read_by_others_as_the_umask_says(self, tmp_path):
        old = os.umask(0o022)
        try:
            write_text(tmp_path / "file", "text")
        finally:
            os.umask(old)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_two_processes_never_share_a_run(tmp_path):
    first = run_at(tmp_path / "out")
    first.open()
    with pytest.raises(InputError, match="another process is working"):
        run_at(tmp_path / "out").open()
    first.publish({})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
