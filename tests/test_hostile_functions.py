"""No text of a model or a data set takes what reads it long, or ends it with anything but a value or one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_functions import PIECES, functions, problem, texts

from rolewise.core.errors import InputError


def faults(length, forms, slow, patience):
    """What took more than `slow` seconds, ended badly, or was under way when `patience` had passed."""
    worker = Path(__file__).with_name("hostile_functions.py")
    try:
        done = subprocess.run(
            [sys.executable, str(worker), str(length), str(forms)], stdout=subprocess.PIPE, timeout=patience, check=True
        ).stdout
    except subprocess.TimeoutExpired as error:
        done = error.stdout or b""
    said = [json.loads(line) for line in done.decode().splitlines()]
    assert len(said) > 100
    under_way = [said[-1]] if len(said[-1]) == 2 else []
    return under_way + [one for one in said if len(one) > 2 and (one[2] > slow or one[3])]


def test_hostile_texts_are_read_soon_and_end_well():
    assert faults(length=15_000, forms=1, slow=1.2, patience=120) == []


@pytest.mark.slow
def test_long_hostile_texts_are_read_soon_and_end_well():
    assert faults(length=50_000, forms=3, slow=2.0, patience=1200) == []


def test_hostile_texts_of_every_form_end_well():
    ends = {
        (name, text[:40]): problem(function, text)
        for name, function in functions()
        for piece in PIECES
        for text in texts(piece, 200, forms=3)
    }
    assert {key: said for key, said in ends.items() if said} == {}


def test_bad_ends_are_found():
    def deep(text):
        return deep(text)

    def unclear(text):
        raise InputError("two\nlines")

    assert "RecursionError" in problem(deep, "")
    assert "no clear line" in problem(unclear, "")
    assert problem(len, "") == ""
    assert len(dict(functions())) > 45
