"""What every benchmark shares: samples of the generator, timing, and a record of where the numbers were taken."""

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from clock import undisturbed_seconds
from transformers import PreTrainedTokenizerBase

from rolewise.core.files import write_json
from rolewise.core.statistics import Interval
from rolewise.core.versions import package_versions
from rolewise.data.render import RenderedSample, Renderer
from rolewise.generator import generate
from rolewise.training.models import model_fingerprint


def rendered_samples(
    tokenizer: PreTrainedTokenizerBase, count: int, seed: int, chat_template: str | None
) -> list[RenderedSample]:
    """The generator's first `count` conversations, rendered."""
    renderer = Renderer(tokenizer, chat_template=chat_template)
    return [sample for conversation in generate(count, seed=seed) for sample in renderer.render(conversation)]


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of `work` (see `clock.py`), an accelerator's queue drained before and after."""
    _drain()
    start = undisturbed_seconds()
    work()
    _drain()
    return undisturbed_seconds() - start


def write_record(options: argparse.Namespace, device: str, results: dict[str, Any]) -> None:
    """Write `options.output`: settings, machine, versions and results as JSON. Of paths only the last part is kept."""
    settings = {name: value for name, value in vars(options).items() if name not in ("model", "output")}
    model = {"name": Path(options.model).resolve().name, "sha256": model_fingerprint(options.model)}
    machine = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }
    facts = {"settings": settings, "model": model, "machine": machine, "versions": package_versions()}
    write_json(options.output, {**facts, **results})


def as_json(interval: Interval) -> dict[str, float]:
    """An interval as a JSON object."""
    return {"median": interval.estimate, "low": interval.low, "high": interval.high}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _drain() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
