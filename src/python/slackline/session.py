"""A process's part in a job that Slackline serves."""
from __future__ import annotations

import contextlib
import ctypes
from typing import Dict, Iterator, List, NamedTuple, Optional, Union

from ._library import Place, library

FORWARD, BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, RECOMPUTE, FORWARD_BACKWARD, OVERLAPPED = range(7)
_KINDS = {
    "forward": FORWARD,
    "backward": BACKWARD,
    "backward-input": BACKWARD_INPUT,
    "backward-weight": BACKWARD_WEIGHT,
    "recompute": RECOMPUTE,
    "forward-backward": FORWARD_BACKWARD,
    "overlapped": OVERLAPPED,
}
_ESEQUENCE = 3

Kind = Union[int, str]


class SlacklineError(RuntimeError):
    """Whoever serves the job has refused this process, or a call makes no sense."""


class OrderError(SlacklineError):
    """The job does not run what the schedule lists; only where it was asked to be strict."""


class Instruction(NamedTuple):
    kind: int
    stage: int
    microbatch: int


def kind_of(kind: Kind) -> int:
    """The number of a kind: "backward-input" is 2."""
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise SlacklineError(f"unknown kind '{kind}'; known: {', '.join(_KINDS)}")
        return _KINDS[kind]
    if kind not in _KINDS.values():
        raise SlacklineError(f"there is no kind {kind}")
    return kind


def join(
    *,
    rank: int,
    ranks: int,
    pipeline: int = 0,
    pipelines: int = 1,
    lane: int = 0,
    lanes: int = 1,
    gpu: Optional[str] = None,
    strict: bool = False,
) -> "Session":
    """Joins the job that this process is part of.

    A pipeline's ranks are the rows of its order; pipelines are replicas (data parallelism); lanes are the
    processes of a rank (tensor parallelism). `gpu`: UUID of the GPU that this process drives. Where the job
    cannot be served this says so on stderr, and every call does nothing; `strict` raises instead, also when
    the job leaves the schedule's order.
    """
    return Session(Place(rank, ranks, pipeline, pipelines, lane, lanes, gpu.encode() if gpu else None), strict)


class Session:
    """Tells what this process does; see slackline.h. From one thread at a time."""

    def __init__(self, place: Place, strict: bool = False) -> None:
        self._library = library()
        self._strict = strict
        self._pipelines = place.pipelines
        self._session = ctypes.c_void_p()
        # Kept apart, since they are called for every instruction.
        self._begin = self._library.slackline_instruction_begin_on
        self._end = self._library.slackline_instruction_end
        self._check(self._library.slackline_join(ctypes.byref(place), ctypes.byref(self._session)))

    def close(self) -> None:
        if self._session:
            self._library.slackline_close(self._session)
            self._session = ctypes.c_void_p()

    def __del__(self) -> None:
        if getattr(self, "_session", None):
            self.close()

    def on_step_begin(self, plan: Optional[int] = None) -> None:
        """`plan`: what the ranks of the pipeline have agreed on by other means; -1 is the baseline."""
        if plan is None:
            self._check(self._library.slackline_step_begin(self._session))
        else:
            self._check(self._library.slackline_step_begin_with(self._session, plan))

    def on_step_end(self) -> None:
        self._check(self._library.slackline_step_end(self._session))

    def on_op_begin(self, kind: Kind, stage: int = -1, microbatch: int = -1) -> None:
        status = self._begin(self._session, kind if type(kind) is int else kind_of(kind), stage, microbatch)
        if status:
            self._check(status)

    def on_op_end(self, seconds: Optional[float] = None) -> None:
        """`seconds`: what the device's own events say that it took."""
        if seconds is not None:
            self._check(self._library.slackline_instruction_took(self._session, seconds))
        status = self._end(self._session)
        if status:
            self._check(status)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        self.on_step_begin()
        try:
            yield
        finally:
            self.on_step_end()

    @contextlib.contextmanager
    def instruction(self, kind: Kind, stage: int = -1, microbatch: int = -1) -> Iterator[None]:
        self.on_op_begin(kind_of(kind), stage, microbatch)
        try:
            yield
        finally:
            self.on_op_end()

    def set_straggler(self, slowdown: float, pipeline: int = -1) -> None:
        """Tells the processes of this node that `pipeline` (-1: something that all wait for) takes `slowdown`
        times as long as it should; 1: no longer."""
        self._check(self._library.slackline_set_straggler(self._session, pipeline, slowdown))

    def straggler(self, pipeline: int = -1) -> float:
        return self._library.slackline_straggler(self._session, pipeline)

    def stragglers(self) -> Dict[int, float]:
        """What this node knows of every pipeline, and (-1) of something outside."""
        return {pipeline: self.straggler(pipeline) for pipeline in range(-1, self._pipelines)}

    @property
    def notices(self) -> int:
        """How often `slackline straggler` has told this job something."""
        return self._library.slackline_notices(self._session)

    @property
    def agrees(self) -> bool:
        """The ranks of a pipeline have to agree on a plan for each step."""
        return bool(self._library.slackline_agrees(self._session))

    @property
    def best_plan(self) -> int:
        return self._library.slackline_best_plan(self._session)

    @property
    def plan(self) -> int:
        """The plan that this step follows; -1: none, the GPUs are at their baseline."""
        return self._library.slackline_plan(self._session)

    @property
    def order(self) -> List[Instruction]:
        """What the schedule lists for this rank."""
        numbers = [ctypes.c_int() for _ in range(3)]
        listed = []
        for index in range(self._library.slackline_order_length(self._session)):
            self._library.slackline_order_entry(self._session, index, *[ctypes.byref(n) for n in numbers])
            listed.append(Instruction(*[n.value for n in numbers]))
        return listed

    @property
    def message(self) -> str:
        """What went wrong last, or ""."""
        return self._library.slackline_message(self._session).decode()

    @property
    def is_simulated(self) -> bool:
        return bool(self._library.slackline_is_simulated(self._session))

    def _check(self, status: int) -> None:
        if status and self._strict:
            raise (OrderError if status == _ESEQUENCE else SlacklineError)(self.message)
