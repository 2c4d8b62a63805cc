"""Whose answers a run on a server holds. No option need say so, and a server may come to serve another model."""

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
    """See whether a run that has answers already goes on with the same model.

    Args:
        earlier: the engine's description from when the run began; empty if there is none.
        now: the engine's description.
        partial: the run's unfinished directory.

    Raises:
        InputError: if another model is served than then.
    """
    if now["kind"] == "server" and earlier.get("model", now["model"]) != now["model"]:
        raise InputError(
            f"{partial}: holds answers of {earlier['model']}, and the server now serves {now['model']}; "
            "name the first with served_model, or remove the folder"
        )


def check_finished(options: EngineOptions, output: Path) -> list[str]:
    """See whether the answers of a finished run are those of the model that is meant now.

    Args:
        options: of the command that was given again.
        output: the finished run's directory.

    Returns:
        What the user must be told: that another server's answers are shown, or that it can't be known whose.

    Raises:
        InputError: if another model is meant than the one that answered.
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
            notes.append(f"{output}: holds answers of {model}; whether that is served now is not known: {error}")
    if meant not in (None, model):
        raise InputError(
            f"{output}: holds answers of {model}, not of {meant}; choose another output, or name the first with "
            "served_model to see them"
        )
    others = [url for url in urls if url not in known]
    if others:
        notes.append(
            f"{output}: holds answers of {model} at {', '.join(known)}; {', '.join(others)} was not asked: "
            "give another output for its own"
        )
    return notes
