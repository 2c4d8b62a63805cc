"""Processes that meet, leave a gather under way, and end; what the tests of the common end start by torchrun.

With two words, `fails N`, process N fails.
"""

import sys

import torch

from rolewise.core.launch import end_together
from rolewise.training import processes


def work(failing: int | None) -> int:
    processes.start()
    own = torch.full((64,), float(processes.number()))
    parts = [torch.empty(64) for _ in range(processes.count())]
    torch.distributed.all_gather(parts, own)
    if processes.number() == failing:
        raise RuntimeError("this one fails")
    # What a thread of gloo may still hold when the interpreter ends.
    torch.distributed.all_gather(parts, own, async_op=True)
    if processes.is_main():
        print(f"sum {int(sum(part.sum() for part in parts[:1]))} of {processes.count()}")
    return 0


if __name__ == "__main__":
    end_together(lambda: work(int(sys.argv[2]) if len(sys.argv) > 2 else None))
