"""Versions of the software behind a result."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("rolewise", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on, without absent packages."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
