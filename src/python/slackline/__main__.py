"""python -m slackline run [--tensor-parallel N] [--strict] SCRIPT [ARGUMENT...]

Runs a training script of torch.distributed.pipelining as it is; its schedules attach themselves.
"""
from __future__ import annotations

import argparse
import os
import runpy
import sys


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m slackline",
        description="Run a training script whose torch.distributed.pipelining schedules follow the clocks.",
        epilog="Example: slackline apply plan.yaml --device nvml -- "
        "torchrun --nproc-per-node 8 -m slackline run train.py",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a script")
    run.add_argument("--tensor-parallel", type=int, default=1, help="processes of a rank, in lockstep")
    run.add_argument("--strict", action="store_true", help="end when the job leaves the schedule's order")
    run.add_argument("script")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    from . import torch as torch_adapter

    torch_adapter.attach_classes(tensor_parallel=options.tensor_parallel, strict=options.strict)
    sys.path[0] = os.path.dirname(os.path.abspath(options.script))  # as Python does
    sys.argv = [options.script, *options.arguments]
    runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main()
