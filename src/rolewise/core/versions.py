"""Which versions of what a result was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("rolewise", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on; packages that are absent are left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
