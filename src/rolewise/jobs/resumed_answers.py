"""Checks of which model answered a run on a server: options need not name it, and a server may change its model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.run_directory import RUN_FILE
from rolewise.engines.base import EngineError
from rolewise.engines.endpoints import first_model, whole_url
from rolewise.jobs.engines import EngineOptions, read_key


def check_resumed(earlier: Mapping[str, Any], now: Mapping[str, Any], partial: Path) -> None:
    """Check that a run with existing answers resumes with the same model.

    Args:
        earlier: the engine's description at the start of the run; empty if there is none.
        now: the engine's current description.
        partial: the run's unfinished directory.

    Raises:
        InputError: if the server now serves another model.
    """
    if now["kind"] == "server" and earlier.get("model", now["model"]) != now["model"]:
        raise InputError(
            f"{partial}: holds answers of {earlier['model']}, but the server now serves {now['model']}; "
            "select the former with served_model, or remove the folder"
        )


def check_finished(options: EngineOptions, output: Path) -> list[str]:
    """Check that the answers of a finished run come from the model that is selected now.

    Args:
        options: options of the rerun command.
        output: the finished run's directory.

    Returns:
        Notes for the user: that another server's answers are shown, or that their model can't be determined.

    Raises:
        InputError: if a different model is selected than the one that answered.
    """
    if options.server is None:
        return []
    engine = json.loads((output / RUN_FILE).read_text(encoding="utf-8")).get("engine", {})
    model, known = engine.get("model"), engine.get("urls", [])
    urls = [whole_url(url) for url in split_list(options.server)]
    notes = []
    meant = options.served_model
    if meant is None:
        try:
            meant = first_model(urls[0], read_key(options.api_key))
        except EngineError as error:
            notes.append(
                f"{output}: holds answers of {model}; it is unknown whether the server still serves it: {error}"
            )
    if meant not in (None, model):
        raise InputError(
            f"{output}: holds answers of {model}, not of {meant}; choose another output, or select the former with "
            "served_model to see them"
        )
    others = [url for url in urls if url not in known]
    if others:
        notes.append(
            f"{output}: holds answers of {model} at {', '.join(known)}, none from {', '.join(others)}; "
            "choose another output for those"
        )
    return notes
