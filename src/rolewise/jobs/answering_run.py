"""What the commands whose model answers share: the engine over several starts of a run, its notes and its summary.

Options need not name a server's model, and a server may change it, so a run keeps the engine's description.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from rolewise import __version__
from rolewise.core.errors import InputError
from rolewise.core.files import read_json, write_json
from rolewise.core.options import split_list
from rolewise.core.run_directory import RUN_FILE, RunDirectory
from rolewise.engines.base import Engine, EngineError
from rolewise.engines.endpoints import first_model, whole_url
from rolewise.jobs.engines import engine_fingerprint, open_engine, read_key
from rolewise.options.groups import AskedModel

SUMMARY_FILE = "summary.json"
ENGINE_FILE = "engine.json"
NOTES_FILE = "notes.json"
ELSEWHERE = frozenset(("model", "output", "server", "served_model", "api_key", "concurrency", "batch_size", "plugin"))
"""Options for locations and speed: they do not affect the answers. For `served_model`, the served model itself is
checked."""


@dataclass(frozen=True)
class SummarisedResult:
    """A finished run.

    Attributes:
        path: its directory.
        summary: the numbers of `summary.json`.
        notes: notes for the reader.
        was_finished: True if the run had already been finished.
    """

    path: Path
    summary: dict[str, Any]
    notes: list[str]
    was_finished: bool

    @classmethod
    def read(cls, path: Path, more_notes: Sequence[str] = (), *, was_finished: bool, **more: Any) -> Self:
        """Read the result from a run's directory, with further notes and attributes."""
        summary = read_json(path / SUMMARY_FILE)
        return cls(path, summary, [*summary.pop("notes"), *more_notes], was_finished, **more)


class AnsweringRun(RunDirectory):
    """The run directory of a command whose model answers.

    Args:
        options: options of the command.
        output, command, config, identity: as for `RunDirectory`; model and version are added to the identity.
    """

    def __init__(
        self, options: AskedModel, output: str, command: str, config: Mapping[str, Any], identity: Mapping[str, Any]
    ) -> None:
        asked = {"model": engine_fingerprint(options), "version": __version__}
        super().__init__(output, command, config, {**asked, **identity})
        self._options = options
        self._earlier: list[str] | None = None

    @contextmanager
    def opened(self, not_worth_keeping: Sequence[str] = (ENGINE_FILE, NOTES_FILE)) -> Iterator[None]:
        """Open the directory as `RunDirectory` does; without answers, the engine's description is not worth keeping."""
        with super().opened(not_worth_keeping):
            yield

    @contextmanager
    def engine(self, tokenizer: PreTrainedTokenizerBase, *, resumes: bool) -> Iterator[Engine]:
        """Open the engine of the options, and keep its description.

        Args:
            tokenizer: the model's tokenizer.
            resumes: True if the run already holds answers, which must come from the same model.

        Raises:
            InputError: if the server now serves another model, or as `open_engine`.
            EngineError: if the server can't be reached or used.
        """
        with open_engine(self._options, tokenizer) as engine:
            now = engine.describe()
            earlier = self.kept(ENGINE_FILE, {}) if resumes else {}
            if now["kind"] == "server" and earlier.get("model", now["model"]) != now["model"]:
                raise InputError(
                    f"{self.partial}: holds answers of {earlier['model']}, but the server now serves {now['model']}; "
                    "select the former with served_model, or remove the folder"
                )
            write_json(self.work / ENGINE_FILE, now)
            yield engine

    def keep_notes(self, notes: Iterable[str]) -> None:
        """Save the notes of this start, together with those of earlier ones."""
        if self._earlier is None:
            self._earlier = self._latest = self.notes()
        now = list(dict.fromkeys([*self._earlier, *notes]))
        if now != self._latest:
            write_json(self.work / NOTES_FILE, now)
            self._latest = now

    def notes(self) -> list[str]:
        """Return the notes so far."""
        return list(self.kept(NOTES_FILE, []))

    def kept(self, name: str, otherwise: Any) -> Any:
        """Return the value of a JSON file in the working directory, or `otherwise` if there is none."""
        return read_json(self.work / name) if (self.work / name).exists() else otherwise

    def publish(self, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Publish as `RunDirectory` does, with the model and its engine among the facts."""
        super().publish({"model": self._options.model, "engine": self.kept(ENGINE_FILE, {}), **facts})

    def notes_on_finished(self) -> list[str]:
        """Check that the answers of a finished run come from the model that is selected now.

        Returns:
            Notes for the user: that another server's answers are shown, or that their model can't be determined.

        Raises:
            InputError: if a different model is selected than the one that answered.
        """
        options, output = self._options, self.output
        if options.server is None:
            return []
        engine = read_json(output / RUN_FILE).get("engine", {})
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
