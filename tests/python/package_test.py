"""The Python package without a framework: what it tells the library, and what adapters tell it.

Megatron's and DeepSpeed's classes do not import without a GPU toolchain, so their adapters run against recordings
of the calls that their schedules make (Megatron-LM d98e8a6 core/pipeline_parallel/schedules.py, DeepSpeed edaa722
runtime/pipe/engine.py and schedule.py).
"""
import unittest

import slackline
from slackline import deepspeed, megatron


class Told:
    """Stands for a session: remembers what it is told."""

    def __init__(self):
        self.calls = []

    def on_step_begin(self):
        self.calls.append("step")

    def on_step_end(self):
        self.calls.append("end")

    def on_op_begin(self, kind, stage=-1, microbatch=-1):
        self.calls.append(f"{'FB'[kind]}{microbatch}")

    def on_op_end(self):
        self.calls.append(".")


ONE_STEP = ["step", "F0", ".", "F1", ".", "B0", ".", "B1", ".", "end"]


class PackageTest(unittest.TestCase):
    def test_without_a_server_every_call_does_nothing(self):
        session = slackline.join(rank=1, ranks=4, strict=True)
        for _ in range(2):
            with session.step():
                with session.instruction("forward", stage=1, microbatch=0):
                    pass
                session.on_op_begin(slackline.BACKWARD)
                session.on_op_end(seconds=0.1)
        self.assertEqual(session.order, [])
        self.assertEqual(session.plan, -1)
        self.assertFalse(session.agrees)
        self.assertFalse(session.is_simulated)
        session.set_straggler(1.2)
        self.assertEqual(session.straggler(), 1)
        session.close()
        session.close()

    def test_what_makes_no_sense_is_said(self):
        with self.assertRaisesRegex(slackline.SlacklineError, "rank 4 of 4 does not exist"):
            slackline.join(rank=4, ranks=4, strict=True)
        with self.assertRaisesRegex(slackline.SlacklineError, "UUID is too long"):
            slackline.join(rank=0, ranks=1, gpu="x" * 64, strict=True)
        session = slackline.join(rank=0, ranks=1)
        with self.assertRaisesRegex(slackline.SlacklineError, "unknown kind 'forwards'; known: forward, "):
            with session.instruction("forwards"):
                pass
        with self.assertRaisesRegex(slackline.SlacklineError, "there is no kind 9"):
            with session.instruction(9):
                pass

    def test_an_instruction_that_fails_still_ends(self):
        session = slackline.join(rank=0, ranks=1, strict=True)
        with self.assertRaises(ZeroDivisionError):
            with session.step(), session.instruction(slackline.FORWARD):
                1 / 0
        session.on_step_begin()
        session.on_step_end()


class MegatronTest(unittest.TestCase):
    class Inner:
        """As Megatron's Timers."""

        def __init__(self):
            self.calls = []

        def __call__(self, name, log_level=None):
            self.calls.append(name)
            return self

        def start(self, barrier=False):
            pass

        stop = start
        elapsed = 7

    def run_step(self, timers, names):
        for name in names:
            timers(name, log_level=2).start()
            timers(name).stop()

    def test_a_step_is_told_from_its_timers(self):
        told, inner = Told(), self.Inner()
        timers = megatron.timers(inner, told)
        for _ in range(2):
            timers("forward-backward", log_level=1).start(barrier=True)
            self.run_step(timers, ["forward-recv", "forward-compute", "forward-compute", "backward-send-forward-recv"])
            self.run_step(timers, ["backward-compute", "backward-compute"])
            timers("forward-backward").stop()
            self.run_step(timers, ["optimizer"])
        self.assertEqual(told.calls, 2 * ONE_STEP)
        self.assertEqual(inner.calls.count("optimizer"), 4)
        self.assertEqual(timers("forward-compute").elapsed, 7)

    def test_without_timers_of_its_own_and_with_chunks(self):
        told = Told()
        timers = megatron.timers(None, told, virtual_stages=2)
        self.run_step(timers, ["forward-compute"])
        self.assertEqual(told.calls, ["F-1", "."])


class DeepSpeedTest(unittest.TestCase):
    class LoadMicroBatch:
        pass

    class ForwardPass:
        pass

    class BackwardPass:
        pass

    def make_engine(self):
        test = self

        class Engine:
            """As PipelineEngine: looks instructions up and binds them."""

            def _run(self, buffer_id):
                self.ran += 1

            _INSTRUCTION_MAP = {test.LoadMicroBatch: _run, test.ForwardPass: _run, test.BackwardPass: _run}
            ran = 0

            def _exec(self, *instructions):
                for instruction in instructions:
                    self._INSTRUCTION_MAP[instruction].__get__(self, type(self))(buffer_id=0)

            def train_batch(self, data_iter=None):
                self._exec(test.LoadMicroBatch, test.ForwardPass, test.ForwardPass, test.BackwardPass, test.BackwardPass)
                return data_iter

            def eval_batch(self):
                self._exec(test.ForwardPass)

        return Engine()

    def test_a_batch_is_a_step_and_an_evaluation_is_none(self):
        told, engine, other = Told(), self.make_engine(), self.make_engine()
        deepspeed.watch(engine, told, lambda: None)
        self.assertEqual(engine.train_batch(data_iter=5), 5)
        engine.eval_batch()
        engine.train_batch()
        self.assertEqual(told.calls, 2 * ONE_STEP)
        self.assertEqual(engine.ran, 11)
        other.train_batch()
        self.assertEqual(other.ran, 5)


class StoreTest(unittest.TestCase):
    """Agreement through a job's store."""

    class Store:
        def __init__(self):
            self.values = {}
            self.is_gone = False

        def _check(self):
            if self.is_gone:
                raise ConnectionError("store: Broken pipe\nmore")

        def set(self, key, value):
            self._check()
            self.values[key] = value.encode()

        def get(self, key):
            return self.values[key]

        def add(self, key, amount):
            self._check()
            self.values[key] = self.values.get(key, 0) + amount
            return self.values[key]

        def wait(self, keys, _timeout):
            self._check()
            if not all(key in self.values for key in keys):
                raise TimeoutError("wait timeout")

        def delete_key(self, key):
            self.values.pop(key)

    class Session:
        agrees = True

        def __init__(self):
            self.known = {-1: 1.0, 0: 1.0, 1: 1.0}
            self.notices = 0

        def stragglers(self):
            return self.known

        def set_straggler(self, slowdown, pipeline):
            self.known[pipeline] = slowdown

        @property
        def best_plan(self):
            return 3 if max(self.known[-1], self.known[1]) > 1 else 0

    def setUp(self):
        from slackline.agreement import StoreAgreement

        self.store = self.Store()
        self.sessions = [self.Session(), self.Session()]
        self.leader = StoreAgreement(self.store, 0, leads=True, speaks=True)
        self.follower = StoreAgreement(self.store, 0, leads=False, speaks=True)
        self.leader.begin(self.sessions[0])
        self.follower.begin(self.sessions[1])

    def test_all_follow_what_the_first_rank_says_and_notices_travel(self):
        self.assertEqual([self.leader.next_plan(), self.follower.next_plan()], [0, 0])
        self.sessions[1].known[1] = 1.2  # the other node is told
        self.sessions[1].notices += 1
        self.assertEqual([self.leader.next_plan(), self.follower.next_plan()], [0, 0])
        self.assertEqual([self.leader.next_plan(), self.follower.next_plan()], [3, 3])
        self.sessions[0].known[1] = 1.0
        self.sessions[0].notices += 1
        self.assertEqual([self.leader.next_plan(), self.follower.next_plan()], [0, 0])
        for _ in range(200):
            self.leader.next_plan()
        self.assertLess(len(self.store.values), 80)

    def test_a_store_that_goes_away_leaves_the_baseline_and_the_training(self):
        self.assertEqual([self.leader.next_plan(), self.follower.next_plan()], [0, 0])
        self.store.is_gone = True
        for _ in range(5):
            self.assertEqual([self.leader.next_plan(), self.follower.next_plan()], [-1, -1])
        self.store.is_gone = False
        self.assertEqual(self.follower.next_plan(), -1)


if __name__ == "__main__":
    unittest.main()
