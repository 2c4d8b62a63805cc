"""A suite as a user's plugin adds it: the model is to end its answer in so many tokens."""

import os
import signal
from pathlib import Path

from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import Ask, Suite
from rolewise.evaluation.suites import register_suite


class ShortAnswers(Suite):
    name = "short_answers"
    title = "Short answers"

    def examples(self):
        return [Example(f"q{i}", f"category {i % 3}", f"Say {i} words.") for i in range(30)]

    def play(self, example):
        killed_at = os.environ.get("KILLED_AT")
        marker = Path(os.environ.get("KILLED_MARKER", ""))
        if killed_at == example.id and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        answer = yield Ask(messages=[{"role": "user", "content": example.data}], max_new_tokens=12)
        length = len(answer.samples[0].ids) if answer.samples else 0
        return Verdict(float(len(set(answer.text)) % 2), f"{length} tokens", {"length": length})

    def write_official(self, results, folder):
        (folder / "lengths.txt").write_text("".join(f"{v.detail['length']}\n" for _, v in results))


class Falls(ShortAnswers):
    name = "falls"

    def examples(self):
        raise OSError("nothing here")


register_suite("falls", lambda settings: Falls())
register_suite("short_answers", lambda settings: ShortAnswers())
