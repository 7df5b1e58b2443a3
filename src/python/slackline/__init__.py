"""Runs training at the GPU clocks of a Slackline schedule.

Under ``slackline apply`` or ``slackline profile`` a process tells what it does, and its GPUs follow; without
them every call does nothing. With torch.distributed.pipelining one line does it all::

    slackline.attach(schedule)          # any schedule of torch.distributed.pipelining

or none: ``python -m slackline run train.py``. Any other loop::

    session = slackline.join(rank=0, ranks=4)
    for batch in data:
        with session.step():
            for kind, microbatch in work:
                with session.instruction(kind, microbatch=microbatch):
                    ...
"""
from __future__ import annotations

from typing import Any, Optional

from .session import (
    BACKWARD,
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    FORWARD_BACKWARD,
    OVERLAPPED,
    RECOMPUTE,
    Instruction,
    OrderError,
    Session,
    SlacklineError,
    join,
)

__version__ = "0.1.0"
__all__ = [
    "BACKWARD",
    "BACKWARD_INPUT",
    "BACKWARD_WEIGHT",
    "FORWARD",
    "FORWARD_BACKWARD",
    "OVERLAPPED",
    "RECOMPUTE",
    "Instruction",
    "OrderError",
    "Session",
    "SlacklineError",
    "attach",
    "join",
]


def attach(schedule: Any, *, tensor_parallel: int = 1, strict: bool = False) -> Session:
    """Lets a schedule of torch.distributed.pipelining follow the clocks; see slackline.torch.attach."""
    from . import torch as torch_adapter

    return torch_adapter.attach(schedule, tensor_parallel=tensor_parallel, strict=strict)
