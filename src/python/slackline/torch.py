"""torch.distributed.pipelining under Slackline.

Every schedule class, from torch 2.6 on, runs its instructions through three methods of its stage objects, and
its steps through `step`. Those are wrapped on the objects; nothing is subclassed, and no result changes.
"""
from __future__ import annotations

import functools
import json
import os
from datetime import timedelta
from typing import Any, Callable, List, Optional, Tuple

import torch
import torch.distributed as dist

from .agreement import StoreAgreement
from .session import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Session, join

_PATIENCE = timedelta(seconds=60)
_ATTACHED = "_slackline_session"


def attach(schedule: Any, *, tensor_parallel: int = 1, strict: bool = False) -> Session:
    """Lets the GPUs of this process follow the frequency schedule while `schedule` runs.

    Call it on every rank, after the schedule was made and before its first step. `tensor_parallel`: so many
    processes work on one rank of a pipeline in lockstep, with neighbouring ranks. `strict`: see slackline.join.
    """
    attached = getattr(schedule, _ATTACHED, None)
    if attached is not None:
        return attached
    stages = _stages_of(schedule)
    place, agreement = _find_place(stages[0], tensor_parallel)
    session = join(gpu=_gpu_of(stages[0].device), strict=strict, **place)
    if agreement is not None:
        agreement.begin(session)
    for stage in stages:
        _watch_stage(stage, session)
    _watch_steps(schedule, session, agreement)
    setattr(schedule, _ATTACHED, session)
    return session


def attach_classes(**options: Any) -> None:
    """From now on every schedule attaches itself at its first step."""
    from torch.distributed.pipelining import schedules

    for base in (schedules.PipelineScheduleSingle, schedules.PipelineScheduleMulti):
        for kind in _with_subclasses(base):
            if "step" in vars(kind):
                kind.step = _attaching(kind.step, options)


def _attaching(step: Callable[..., Any], options: dict) -> Callable[..., Any]:
    @functools.wraps(step)
    def attach_and_step(schedule: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(schedule, _ATTACHED, None) is not None:
            return step(schedule, *args, **kwargs)
        attach(schedule, **options)
        return schedule.step(*args, **kwargs)

    return attach_and_step


def _with_subclasses(base: type) -> List[type]:
    found = [base]
    for kind in base.__subclasses__():
        found += _with_subclasses(kind)
    return found


def _stages_of(schedule: Any) -> List[Any]:
    stages = getattr(schedule, "_stages", None)
    return list(stages) if stages is not None else [schedule._stage]


def _gpu_of(device: torch.device) -> Optional[str]:
    """By its UUID, whatever CUDA_VISIBLE_DEVICES or a container has done to the numbers."""
    if device.type != "cuda":
        return None
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if torch.version.hip else f"GPU-{uuid}"


def _find_place(stage: Any, tensor_parallel: int) -> Tuple[dict, Optional[StoreAgreement]]:
    """This process's place, from what all of them say in the job's own store."""
    group = stage.group if stage.group is not None else dist.group.WORLD
    mine = [dist.get_global_rank(group, r) for r in range(dist.get_world_size(group))]
    place = {"rank": stage.group_rank, "ranks": stage.group_size}
    socket = os.environ.get("SLACKLINE_SOCKET", "")
    # The same path on two nodes is two sockets.
    served_at = f"{os.uname().nodename} {_boot_id()} {socket}" if socket else ""
    if not served_at or dist.get_world_size() == 1:
        return place, None
    store = dist.PrefixStore("slackline", dist.distributed_c10d._get_default_store())
    world = dist.get_world_size()
    store.set(f"place/{dist.get_rank()}", json.dumps([mine, served_at]))
    store.wait([f"place/{r}" for r in range(world)], _PATIENCE)
    places = [json.loads(store.get(f"place/{r}")) for r in range(world)]
    groups = sorted({tuple(ranks) for ranks, _ in places})
    number = groups.index(tuple(mine))
    place.update(
        pipeline=number // tensor_parallel,
        pipelines=len(groups) // tensor_parallel,
        lane=number % tensor_parallel,
        lanes=tensor_parallel,
    )
    sockets = [at for _, at in places]
    if len(set(sockets)) == 1:
        return place, None
    leads = place["rank"] == 0 and place["lane"] == 0
    speaks = sockets.index(served_at) == dist.get_rank()
    return place, StoreAgreement(store, place["pipeline"], leads=leads, speaks=speaks)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _watch_stage(stage: Any, session: Session) -> None:
    number = stage.stage_index
    begin, end = session.on_op_begin, session.on_op_end
    synchronize = _synchronizer(stage.device)

    def watch(name: str, kind: Callable[..., int]) -> None:
        run = getattr(stage, name)

        @functools.wraps(run)
        def watched(chunk: int, *args: Any, **kwargs: Any) -> Any:
            begin(kind(*args, **kwargs), number, chunk)
            try:
                return run(chunk, *args, **kwargs)
            finally:
                synchronize()
                end()

        setattr(stage, name, watched)

    def kind_of_backward(loss: Any = None, full_backward: bool = True, *_: Any, **__: Any) -> int:
        return BACKWARD if full_backward else BACKWARD_INPUT

    watch("forward_one_chunk", lambda *_, **__: FORWARD)
    watch("backward_one_chunk", kind_of_backward)
    watch("backward_weight_one_chunk", lambda *_, **__: BACKWARD_WEIGHT)


def _synchronizer(device: torch.device) -> Callable[[], None]:
    """What waits until the instruction is done on the device, not only queued."""
    if device.type == "cuda":
        return lambda: torch.cuda.current_stream(device).synchronize()
    return lambda: None


def _watch_steps(schedule: Any, session: Session, agreement: Optional[StoreAgreement]) -> None:
    run = schedule.step

    @functools.wraps(run)
    def step(*args: Any, **kwargs: Any) -> Any:
        if not getattr(schedule, "_has_backward", True):  # evaluation
            return run(*args, **kwargs)
        session.on_step_begin(None if agreement is None else agreement.next_plan())
        try:
            return run(*args, **kwargs)
        finally:
            session.on_step_end()

    schedule.step = step
