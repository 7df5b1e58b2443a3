"""Megatron-LM under Slackline, without an edit of its source.

Megatron-core starts and stops a timer around every forward and backward and around the step as a whole:
`config.timers`, any callable that gives an object with start() and stop(). A proxy there sees exactly the
instructions, on the plain, interleaved and unpipelined schedules. Evaluation runs without timers, and so does
not advance the frequency schedule.
"""
from __future__ import annotations

from typing import Any, Callable, Optional

from .session import BACKWARD, FORWARD, Session

_STEP = "forward-backward"
_KINDS = {"forward-compute": FORWARD, "backward-compute": BACKWARD}


def attach(session: Session, *, virtual_stages: int = 1, synchronize: Optional[Callable[[], None]] = None) -> None:
    """Wraps megatron.core.timers.Timers, whose one object every part of Megatron calls. `synchronize`: waits for
    the device; torch.cuda.synchronize unless it is given."""
    from megatron.core.timers import Timers

    if synchronize is None:
        import torch

        synchronize = torch.cuda.synchronize
    Timers.__call__ = _watching(Timers.__call__, session, virtual_stages, synchronize)


def timers(inner: Optional[Callable[..., Any]], session: Session, *, virtual_stages: int = 1,
           synchronize: Callable[[], None] = lambda: None) -> Callable[..., Any]:
    """What to put into `config.timers` instead of `inner`, which it calls, where only that is at hand."""
    watch = _watching(lambda _, name, log_level=None: inner(name, log_level) if inner else None, session,
                      virtual_stages, synchronize)
    return lambda name, log_level=None: watch(None, name, log_level)


def _watching(call: Callable[..., Any], session: Session, virtual_stages: int,
              synchronize: Callable[[], None]) -> Callable[..., Any]:
    # Its calls name no microbatch: in their order they are counted; where chunks alternate they are not known.
    counts = dict.fromkeys(_KINDS, 0)

    def timer(self: Any, name: str, log_level: Optional[int] = None) -> Any:
        inner = call(self, name, log_level)
        if name == _STEP:
            return _Timer(inner, begin_step, session.on_step_end)
        if name in _KINDS:
            return _Timer(inner, lambda: begin(name), end)
        return inner

    def begin_step() -> None:
        counts.update(dict.fromkeys(_KINDS, 0))
        session.on_step_begin()

    def begin(name: str) -> None:
        microbatch = counts[name] if virtual_stages == 1 else -1
        counts[name] += 1
        session.on_op_begin(_KINDS[name], -1, microbatch)

    def end() -> None:
        synchronize()
        session.on_op_end()

    return timer


class _Timer:
    """A timer that also tells; all else it has is the inner one's."""

    def __init__(self, inner: Any, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._inner = inner
        self._begin = begin
        self._end = end

    def start(self, *args: Any, **kwargs: Any) -> None:
        if self._inner is not None:
            self._inner.start(*args, **kwargs)
        self._begin()

    def stop(self, *args: Any, **kwargs: Any) -> None:
        self._end()
        if self._inner is not None:
            self._inner.stop(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
