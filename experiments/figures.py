"""Draw the figures of the documentation anew, from the committed numbers; nothing is computed.

    python experiments/figures.py                                   # all of them, into docs/figures
    python experiments/figures.py shad_settings --output elsewhere  # one of them, into another folder

A figure's script, its numbers and its image have one name: docs/figures/NAME.png is what `draw` of experiments/NAME.py
makes of results/NAME.json, and the script itself draws it at the end of a run.
"""

import argparse
import importlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
NAMES = sorted(path.stem for path in FIGURES.glob("*.png"))


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all unless given")
    parser.add_argument("--output", type=Path, default=FIGURES, help="folder of the images")
    arguments = parser.parse_args()
    for name in arguments.names or NAMES:
        if name not in NAMES:
            parser.error(f"there is no figure {name}; choose from {', '.join(NAMES)}")
        try:
            redraw(name, arguments.output)
        except OSError as error:
            parser.error(f"{error.filename}: {error.strerror}; choose another --output")


def redraw(name: str, folder: Path) -> Path:
    """Draw a figure into a folder; the image's path."""
    script = importlib.import_module(name)  # it stands beside this one
    numbers = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    image = folder / f"{name}.png"
    script.draw(numbers, image)
    return image


if __name__ == "__main__":
    main()
