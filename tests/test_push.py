"""The data set on the hub: what would be uploaded, what its card says, and what is said when the hub is not there."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from labelled_sets import make_labelled
from workbench import tiny_tokenizer

from rolewise import InputError, PushOptions, push
from rolewise.cli.main import main
from rolewise.generator import generate
from rolewise.jobs.push import HTTP_ERROR


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    conversations = generate(6, seed=4)
    tokenizer = tiny_tokenizer([str(m["content"]) for c in conversations for m in c.messages])
    return make_labelled(tmp_path_factory.mktemp("set") / "labelled", tokenizer, conversations)


@pytest.fixture(scope="module")
def folder(labelled, tmp_path_factory):
    path = tmp_path_factory.mktemp("dry") / "card"
    assert push(PushOptions(data=str(labelled.path), repo="me/agent-labels", dry_run=str(path))) == str(path)
    return path


def test_the_folder_loads_as_the_card_says_and_holds_the_rows(labelled, folder, tmp_path):
    rows = load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    assert rows.column_names == labelled.rows.column_names
    assert rows.features == labelled.rows.features
    for name in ("input_ids", "token_roles", "conversation"):
        assert rows[name][:] == labelled.rows[name][:]


def test_the_card_says_what_is_in_it(labelled, folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front_matter, body = text.split("---\n", 2)
    assert yaml.safe_load(front_matter)["size_categories"] == ["n<1K"]
    counts = labelled.info.counts
    for expected in (
        "# agent-labels",
        "SHAD",
        "https://arxiv.org/abs/2412.14780",
        "`someone/model`",
        f"| reasoning | {counts['reasoning']:,} |",
        f"6 samples, {counts['tokens']:,} tokens",
        "AUROC of LD against the truth",
        'load_dataset("me/agent-labels", split="train")',
        "@inproceedings",
    ):
        assert expected in body, expected
    for column in labelled.rows.column_names:
        line = next(line for line in body.splitlines() if line.startswith(f"| `{column}` |"))
        assert len(line.split("|")[2].strip()) > 5, column


def test_folders_of_this_machine_stay_here(labelled, tmp_path):
    copy = tmp_path / "set"
    labelled.rows.save_to_disk(copy)
    info = json.loads((labelled.path / "rolewise.json").read_text(encoding="utf-8"))
    info |= {"model": "/home/somebody/secret/base", "method": "transfer"}
    info["settings"]["transferred_from"] = {"model": "/home/somebody/secret/first", "method": "shad"}
    (copy / "rolewise.json").write_text(json.dumps(info), encoding="utf-8")
    push(PushOptions(data=str(copy), repo="me/x", dry_run=str(tmp_path / "card")))
    for name in ("README.md", "rolewise.json"):
        text = (tmp_path / "card" / name).read_text(encoding="utf-8")
        assert "secret" not in text
        assert "base" in text
        assert "first" in text


def test_one_commit_goes_to_the_repository_that_was_named(labelled, monkeypatch):
    calls = []

    def create(self, repo_id, **options):
        calls.append(("create", repo_id, options["repo_type"], options["private"], options["exist_ok"]))

    def upload(self, *, repo_id, repo_type, folder_path, commit_message):
        files = sorted(str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*") if p.is_file())
        calls.append(("upload", repo_id, repo_type, files))

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    where = push(PushOptions(data=str(labelled.path), repo="me/x", private=True))
    assert where == "https://huggingface.co/datasets/me/x"
    files = ["README.md", "data/train-00000-of-00001.parquet", "rolewise.json"]
    assert calls == [("create", "me/x", "dataset", True, True), ("upload", "me/x", "dataset", files)]


class _Response:
    def __init__(self, status: int):
        self.status_code, self.headers, self.request = status, {}, None


def _refusal(status: int) -> HfHubHTTPError:
    return HfHubHTTPError("refused", response=_Response(status), server_message="the name is taken")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalTokenNotFoundError("no token"), "no token for the hub; log in"),
        (_refusal(401), "no valid token; log in"),
        (_refusal(403), "the token may not write there"),
        (_refusal(409), "the hub refuses access: the name is taken (status 409)"),
        (OfflineModeIsEnabled("offline"), "the hub can't be reached"),
        (HTTP_ERROR("connection refused"), "the hub can't be reached (connection refused); check the network"),
    ],
)
def test_a_hub_that_is_not_there_or_refuses_is_one_line(labelled, monkeypatch, capsys, error, message):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(HfApi, "create_repo", fail)
    assert main(["push", "--data", str(labelled.path), "--repo", "me/x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rolewise push: me/x: ")
    assert message in line


@pytest.mark.parametrize("repo", ["x", "me/x/y", "me/ x", ""])
def test_a_name_that_is_none_is_refused_before_anything_is_read(repo, tmp_path):
    with pytest.raises(InputError, match="give user/name"):
        push(PushOptions(data=str(tmp_path / "missing"), repo=repo))


def test_a_folder_that_is_there_is_kept(labelled, tmp_path):
    (tmp_path / "card").mkdir()
    with pytest.raises(InputError, match="card: already exists"):
        push(PushOptions(data=str(labelled.path), repo="me/x", dry_run=str(tmp_path / "card")))
    assert [p.name for p in tmp_path.iterdir()] == ["card"]
