"""How the ranks of a pipeline agree on a plan where they are on several nodes: through the job's own store.

As on one node, where a board in shared memory does it: rank 0 of a pipeline chooses the plan of a step and
announces it, the others wait for that. What `slackline straggler` tells one node travels to the others as a
numbered list, which all read in its order.
"""
from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, Optional

from .session import Session

_FIRST_PATIENCE = timedelta(seconds=60)
_PATIENCE = timedelta(seconds=10)
_MOST_UNHEARD = 3
_STEPS_KEPT = 64


class StoreAgreement:
    """`store`: torch's, or what has its add, set, get, wait and delete_key."""

    def __init__(self, store: Any, pipeline: int, *, leads: bool, speaks: bool) -> None:
        self._store = store
        self._pipeline = pipeline
        self._leads = leads
        self._speaks = speaks  # for its node: passes on what that is told
        self._session: Optional[Session] = None
        self._step = 0
        self._unheard = 0
        self._notices_sent = 0
        self._notices_read = 0

    def begin(self, session: Session) -> None:
        self._session = session

    def next_plan(self) -> Optional[int]:
        """The plan of the step that begins; nothing where there is nothing to agree on."""
        session = self._session
        if session is None or not session.agrees:
            return None
        step, self._step = self._step, self._step + 1
        if self._unheard >= _MOST_UNHEARD:
            return -1
        try:
            if self._speaks:
                self._pass_notices_on(session)
            plan = self._announce(session, step) if self._leads else self._await(step)
            self._unheard = 0
            return plan
        except Exception as error:  # a store that is gone must not end the training
            self._unheard += 1
            if self._unheard in (1, _MOST_UNHEARD):
                until = "" if self._unheard == 1 else " from here on"
                print(
                    f"slackline: the job's store does not say which plan to follow ({str(error).splitlines()[0]}); "
                    f"this rank's GPUs run at their baseline{until}",
                    file=sys.stderr,
                )
            return -1

    def _key(self, step: int) -> str:
        return f"plan/{self._pipeline}/{step}"

    def _announce(self, session: Session, step: int) -> int:
        self._read_notices(session)
        plan = session.best_plan
        self._store.set(self._key(step), str(plan))
        if step >= _STEPS_KEPT:
            self._store.delete_key(self._key(step - _STEPS_KEPT))
        return plan

    def _await(self, step: int) -> int:
        self._store.wait([self._key(step)], _PATIENCE if step else _FIRST_PATIENCE)
        return int(self._store.get(self._key(step)))

    def _pass_notices_on(self, session: Session) -> None:
        if session.notices == self._notices_sent:
            return
        self._notices_sent = session.notices
        for pipeline, slowdown in session.stragglers().items():
            number = self._store.add("notices", 1)
            self._store.set(f"notice/{number}", f"{pipeline} {slowdown!r}")

    def _read_notices(self, session: Session) -> None:
        count = self._store.add("notices", 0)
        while self._notices_read < count:
            self._notices_read += 1
            key = f"notice/{self._notices_read}"
            self._store.wait([key], _PATIENCE)
            pipeline, slowdown = self._store.get(key).decode().split()
            session.set_straggler(float(slowdown), int(pipeline))
