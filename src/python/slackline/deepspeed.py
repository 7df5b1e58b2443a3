"""DeepSpeed's PipelineEngine under Slackline, without an edit of its source.

The engine looks every instruction of its schedule up in the class's `_INSTRUCTION_MAP`. The engine that is
attached gets a map of its own, in which forward and backward passes are watched. `train_batch` is the step;
`eval_batch` does not advance the frequency schedule.
"""
from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Optional

from .session import BACKWARD, FORWARD, Session, join

_KINDS = {"ForwardPass": FORWARD, "BackwardPass": BACKWARD}


def attach(engine: Any, *, gpu: Optional[str] = None, strict: bool = False,
           synchronize: Optional[Callable[[], None]] = None) -> Session:
    """Call it on every rank, with the engine that deepspeed.initialize has made. `synchronize`: waits for the
    device; that of its accelerator unless it is given."""
    grid = engine.grid
    session = join(
        rank=engine.stage_id,
        ranks=engine.num_stages,
        pipeline=grid.get_data_parallel_id(),
        pipelines=grid.get_data_parallel_world_size(),
        gpu=gpu,
        strict=strict,
    )
    watch(engine, session, synchronize or _accelerator_synchronize())
    return session


def watch(engine: Any, session: Session, synchronize: Callable[[], None]) -> None:
    """Tells `session` what the engine does."""
    in_step = False
    counts: Dict[int, int] = {}

    def watched(run: Callable[..., Any], kind: int) -> Callable[..., Any]:
        @functools.wraps(run)
        def run_and_tell(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not in_step:
                return run(self, *args, **kwargs)
            microbatch = counts.get(kind, 0)
            counts[kind] = microbatch + 1
            session.on_op_begin(kind, -1, microbatch)
            try:
                return run(self, *args, **kwargs)
            finally:
                synchronize()
                session.on_op_end()

        return run_and_tell

    engine._INSTRUCTION_MAP = {
        instruction: watched(run, _KINDS[instruction.__name__]) if instruction.__name__ in _KINDS else run
        for instruction, run in type(engine)._INSTRUCTION_MAP.items()
    }
    train = engine.train_batch

    @functools.wraps(train)
    def train_batch(*args: Any, **kwargs: Any) -> Any:
        nonlocal in_step
        counts.clear()
        session.on_step_begin()
        in_step = True
        try:
            return train(*args, **kwargs)
        finally:
            in_step = False
            session.on_step_end()

    engine.train_batch = train_batch


def _accelerator_synchronize() -> Callable[[], None]:
    from deepspeed.accelerator import get_accelerator

    return get_accelerator().synchronize
