"""Whether the verdict on labels, which needs no truth, agrees with the truth.

    python experiments/verdicts.py --model smollm2=MODEL --model random=OTHER --splits eval hard --seeds 500

Labels the generator's conversations by every method with every model, and holds the verdict of `rolewise check` against
the truth. By the truth, labels are fit to train on if their balanced accuracy is at least 0.8 and above the regex's. A
labelling that exists is kept, so a stopped run resumes. Prints every labelling and the table of verdicts against
truth; writes results/verdicts.json. Choose seeds on which no rule of the verdict was chosen.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.core.versions import package_versions
from rolewise.data.readers import write_conversations
from rolewise.generator import generate
from rolewise.jobs.label import label
from rolewise.labelling.verdict import GOOD, MARGIN
from rolewise.options.labelling import LabelOptions


def main() -> None:
    """Label, judge and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=DIRECTORY")
    parser.add_argument("--methods", nargs="+", default=["contrast", "shad", "regex"])
    parser.add_argument("--splits", nargs="+", default=["eval", "hard"])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--conversations", type=int, default=48)
    parser.add_argument("--work", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--output", type=Path, default=Path("results/verdicts.json"))
    arguments = parser.parse_args()
    models = dict(pair.partition("=")[::2] for pair in arguments.model)
    if "" in models.values():
        raise InputError("--model takes NAME=DIRECTORY")
    table = Table("labels", "verdict", "on sure tokens", "by the truth", "regex by the truth", "fit")
    found: list[dict[str, Any]] = []
    for split in arguments.splits:
        for seed in arguments.seeds:
            data = arguments.work / f"{split}-{seed}.jsonl"
            write_conversations(generate(arguments.conversations, seed=seed, split=split), data)
            for name, model in models.items():
                for method in arguments.methods:
                    if method == "regex" and name != next(iter(models)):
                        continue  # it reads no model
                    output = arguments.work / f"{split}-{seed}-{name}-{method}"
                    options = LabelOptions(model=model, data=str(data), output=str(output), method=method)
                    with console.progress() as bars:
                        checks = label(options, bars).checks
                    if checks.truth is None or checks.verdict is None:
                        raise InputError(f"{output}: its true roles are not known")
                    balance, regex = checks.truth.balanced_accuracy, checks.truth.auroc["regex"].estimate
                    fit = balance >= GOOD and (method == "regex" or balance >= regex + MARGIN)
                    rates = checks.verdict.rates["labels"]
                    found.append(
                        {
                            "labels": output.name,
                            "verdict": checks.verdict.action,
                            "line": checks.verdict.line,
                            "sure": rates.balanced,
                            "truth": balance,
                            "regex": regex,
                            "fit": fit,
                        }
                    )
                    cells = (f"{rates.balanced:.2f}", f"{balance:.2f}", f"{regex:.2f}", "yes" if fit else "no")
                    table.add_row(output.name, checks.verdict.action, *cells)
    Console(width=160).print(table)
    pairs = Counter((each["verdict"], each["fit"]) for each in found)
    for (verdict, fit), count in sorted(pairs.items()):
        Console().print(f"verdict {verdict}, {'fit' if fit else 'not fit'} by the truth: {count}")
    write_json(arguments.output, {"labellings": found, "versions": package_versions()})


if __name__ == "__main__":
    run_script(main)
