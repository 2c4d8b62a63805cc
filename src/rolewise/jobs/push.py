"""The job of `rolewise push`: a labelled data set and its card on the Hugging Face hub."""

import re
import tempfile
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from rolewise.core.errors import InputError
from rolewise.core.files import atomic_folder, write_json, write_text
from rolewise.data.labelled import INFO_FILE, LabelledData, load_labelled
from rolewise.labelling.checks import check_labels
from rolewise.options.labelling import PushOptions
from rolewise.reporting.card import dataset_card, public_name
from rolewise.reporting.views import checks_table

CARD_FILE = "README.md"
DATA_FILES = "data/train-*.parquet"
SHARD_BYTES = 500_000_000
"""Shard size that `datasets` uses for pushing."""
HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""Error type of the HTTP library that this version of the hub's client uses; failed connections raise it, too."""
_REPO_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def push(options: PushOptions) -> str:
    """Push the data set as Parquet, `rolewise.json` and a card, in one commit; return its URL.

    Files of the same names are replaced; others in the repository stay. With `dry_run`, the same files are written to
    that directory, which must not exist yet, and its path is returned.

    Raises:
        InputError: for a name that is not `user/name`, if there is no such data set, the directory exists or can't be
            written, or the hub can't be reached or refuses access (no token, no permission).
    """
    if not _REPO_NAME.fullmatch(options.repo):
        raise InputError(f"repo is {options.repo!r}; give user/name")
    labelled = load_labelled(options.data)
    if options.dry_run is not None:
        if Path(options.dry_run).exists():
            raise InputError(f"{options.dry_run}: already exists; choose another directory or remove it")
        with atomic_folder(options.dry_run) as folder:
            _write_files(labelled, options.repo, folder)
        return options.dry_run
    with tempfile.TemporaryDirectory(prefix="rolewise-push-") as temporary:
        _write_files(labelled, options.repo, Path(temporary))
        return _upload(Path(temporary), options)


def _write_files(labelled: LabelledData, repo: str, directory: Path) -> None:
    rows = labelled.rows
    shards = max(1, -(-int(rows.data.nbytes) // SHARD_BYTES))
    (directory / PurePath(DATA_FILES).parent).mkdir()
    for index in range(shards):
        name = DATA_FILES.replace("*", f"{index:05d}-of-{shards:05d}")
        rows.shard(shards, index, contiguous=True).to_parquet(directory / name)
    model, settings = public_name(labelled.info.model), _public_settings(labelled.info.settings)
    info = replace(labelled.info, model=model, settings=settings)  # without this machine's folders
    checks = checks_table(check_labels(labelled))
    write_text(directory / CARD_FILE, dataset_card(info, checks, rows.column_names, repo, DATA_FILES))
    write_json(directory / INFO_FILE, asdict(info))


def _public_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without folders, also those of the labels' origin if they were transferred."""
    public: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            public[name] = _public_settings(value)
        else:
            public[name] = public_name(value) if name in ("model", "chat_template") and value else value
    return public


def _upload(folder: Path, options: PushOptions) -> str:
    api = HfApi()
    try:
        api.create_repo(options.repo, repo_type="dataset", private=options.private, exist_ok=True)
        api.upload_folder(
            repo_id=options.repo,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Labelled data set, by rolewise",
        )
    except LocalTokenNotFoundError as error:
        raise InputError(f"{options.repo}: no token for the hub; log in (hf auth login) or set HF_TOKEN") from error
    except HfHubHTTPError as error:
        raise InputError(f"{options.repo}: the hub refuses access: {_refusal(error)}") from error
    except (OfflineModeIsEnabled, HTTP_ERROR, ConnectionError) as error:
        raise InputError(
            f"{options.repo}: the hub can't be reached ({error}); check the network, or use --dry-run"
        ) from error
    return f"https://huggingface.co/datasets/{options.repo}"


def _refusal(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if status == 401:
        return "no valid token; log in (hf auth login) or set HF_TOKEN"
    if status == 403:
        return "the token may not write there; use one with write permission, or put your own name before the slash"
    return f"{error.server_message or str(error).splitlines()[0]} (status {status})"
