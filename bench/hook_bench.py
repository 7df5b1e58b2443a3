"""What the hooks of Zeus's Perseus client and of Slackline cost a training process in Python, how soon the driver
hears, and what both use besides. Run by hook_bench.sh, within hook_bench, whose node and job it uses.
"""

import argparse
import bisect
import contextlib
import ctypes
import gc
import importlib.metadata
import mmap
import multiprocessing
import os
import random
import statistics
import struct
import sys
import threading
import time
import types
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "build/release/libslackline.so.0"
GPUS = 8
REQUESTS_PER_SECOND = 200
SEED = 20241124
# DriverStamps of driver_stamps.h.
KEPT = 1 << 15
RING_BYTES = 8 + 16 * KEPT

now = time.perf_counter_ns  # CLOCK_MONOTONIC, as the driver's stamps
FORWARD = 0


def clock_of(instruction):
    return 1980 - 15 * (instruction % 100)


def stub_torch():
    """What the Perseus client takes of PyTorch. Nothing runs on these GPUs, so synchronizing costs nothing."""
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(synchronize=lambda device: None, is_available=lambda: True)
    torch.distributed = types.ModuleType("torch.distributed")
    sys.modules.update({"torch": torch, "torch.distributed": torch.distributed})


stub_torch()
from zeus.optimizer.pipeline_frequency.frequency_controller import FrequencyController  # noqa: E402
from zeus.optimizer.pipeline_frequency.optimizer import PipelineFrequencyOptimizer  # noqa: E402


class Slackline:
    """libslackline by ctypes. The end of an instruction asks for the clock of the next."""

    name = "Slackline by ctypes"
    asks_at_end = may_overtake = True

    def __init__(self, rank, instructions):
        library = ctypes.CDLL(str(LIBRARY))
        for function in "step_begin", "step_end", "instruction_end", "close":
            getattr(library, f"slackline_{function}").argtypes = [ctypes.c_void_p]
        library.slackline_instruction_begin.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        library.slackline_message.argtypes = [ctypes.c_void_p]
        library.slackline_message.restype = ctypes.c_char_p
        session = ctypes.c_void_p()
        assert library.slackline_open(rank, GPUS, ctypes.byref(session)) == 0
        begin, end = library.slackline_instruction_begin, library.slackline_instruction_end
        self.begin = lambda instruction: begin(session, FORWARD, instruction)
        self.end = lambda instruction: end(session)
        self.step_begin = lambda: library.slackline_step_begin(session)
        self.step_end = lambda: library.slackline_step_end(session)
        self.close = lambda: library.slackline_close(session)
        self.message = lambda: library.slackline_message(session).decode()
        self.pids = []


class ZeusController:
    """FrequencyController alone: a queue to the process that it starts."""

    name = "Zeus set_frequency"
    asks_at_end = may_overtake = False

    def __init__(self, rank, instructions):
        self.controller = FrequencyController(rank)
        self.pids = [self.controller._proc.pid]
        self.begin = lambda instruction: self.controller.set_frequency(clock_of(instruction))
        self.end = lambda instruction: None
        self.step_begin = self.step_end = lambda: None
        self.message = lambda: ""

    def close(self):
        self.controller.end()
        self.controller._proc.join()


class ZeusOptimizer(ZeusController):
    """PipelineFrequencyOptimizer as it is after __init__, which would need its server and torch.distributed."""

    name = "Zeus on_instruction_begin/end"

    def __init__(self, rank, instructions):
        super().__init__(rank, instructions)
        optimizer = PipelineFrequencyOptimizer.__new__(PipelineFrequencyOptimizer)
        optimizer.device_id = rank
        optimizer.frequency_controller = self.controller
        optimizer.freq_schedule = [("forward", clock_of(i)) for i in range(instructions)]
        optimizer.freq_schedule_iter = iter(optimizer.freq_schedule)
        self.begin = lambda instruction: optimizer.on_instruction_begin("forward")
        self.end = lambda instruction: optimizer.on_instruction_end("forward")
        self.step_begin, self.step_end = optimizer.on_step_begin, optimizer.on_step_end


CLIENTS = [Slackline, ZeusOptimizer, ZeusController]


class Stamps:
    """When which clock reached the driver of a GPU."""

    def __init__(self, gpu):
        with open(os.environ["SLACKLINE_BENCH_STAMPS"], "rb") as file:
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = gpu * RING_BYTES

    def calls(self):
        return struct.unpack_from("<Q", self.memory, self.at)[0]

    def call(self, number):
        return struct.unpack_from("<qq", self.memory, self.at + 8 + number % KEPT * 16)

    def wait_for(self, mhz):
        deadline = time.monotonic() + 20
        while not self.calls() or self.call(self.calls() - 1)[1] != mhz:
            assert time.monotonic() < deadline, f"WRONG: the driver was never asked for {mhz} MHz"
            time.sleep(0.001)


def latencies(stamps, first, posts, may_overtake):
    """Of the posts (time, MHz) that the driver heard of since its call `first`: of those with the same clock the latest
    where a newer request overtakes, else the earliest.
    """
    found, at = [], 0
    for number in range(first, stamps.calls()):
        stamp, mhz = stamps.call(number)
        until = bisect.bisect_right(posts, stamp, key=lambda post: post[0])
        matches = [k for k in range(at, until) if posts[k][1] == mhz]
        if matches:
            match = matches[-1 if may_overtake else 0]
            found.append(stamp - posts[match][0])
            at = match + 1
    assert at == len(posts), "WRONG: the last clock of a step did not arrive"
    return found


def processor_seconds(pid, thread="*"):
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob(f"{thread}/schedstat")) / 1e9


def feeder_seconds():
    """Of the thread that takes what is put into a queue to its pipe."""
    return sum(
        processor_seconds(os.getpid(), thread.native_id)
        for thread in threading.enumerate()
        if thread.name == "QueueFeederThread"
    )


def sleep_until(moment_ns):
    time.sleep(max(0, moment_ns - now()) / 1e9)


def spin_until(moment_ns):
    while now() < moment_ns:
        pass


def run_rank(client_type, rank, instructions, is_warm, together, pipe):
    """One training process: begins and ends instructions at random times, as hook_bench.cpp does. `is_warm`: spins in
    between, and ten times faster.
    """
    rng = random.Random(SEED + rank)
    wait_until, ms = (spin_until, 1e5) if is_warm else (sleep_until, 1e6)
    client, stamps = client_type(rank, instructions), Stamps(rank)
    client.step_begin()
    stamps.wait_for(clock_of(0))  # Zeus begins at the highest clock, too
    gc.collect()
    pipe.send(client.pids)
    begins, ends, posts, status = [], [], [], 0
    together.wait()
    first, fed, moment = stamps.calls(), feeder_seconds(), now()
    for i in range(instructions):
        wait_until(moment + int(rng.uniform(0.5, 1.5) * ms))
        a = now()
        status |= client.begin(i) or 0
        b = now()
        wait_until(b + int(rng.uniform(3.5, 4.5) * ms))
        c = now()
        status |= client.end(i) or 0
        d = moment = now()
        begins.append(b - a)
        ends.append(d - c)
        if client.asks_at_end and i + 1 < instructions:
            posts.append((c, clock_of(i + 1)))
        elif not client.asks_at_end and i > 0:  # for the first it runs at that clock already
            posts.append((a, clock_of(i)))
    stamps.wait_for(clock_of(instructions - 1))
    together.wait()
    fed = feeder_seconds() - fed
    assert status == 0 and not client.message(), client.message()
    found = latencies(stamps, first, posts, client.may_overtake)
    client.step_end()
    client.close()
    stamps.wait_for(0)
    pipe.send((begins, ends, found, len(posts), fed))


def run(client_type, processes, instructions, is_warm):
    """Of all ranks together: begins, ends, latencies, posts, and processor use in percent of a core."""
    together = multiprocessing.Barrier(processes + 1)
    ranks, pipes = [], []
    for rank in range(processes):
        ours, theirs = multiprocessing.Pipe()
        pipes.append(ours)
        ranks.append(
            multiprocessing.Process(target=run_rank, args=(client_type, rank, instructions, is_warm, together, theirs))
        )
        ranks[-1].start()
    with contextlib.closing(Waiting(ranks, together)) as waiting:
        pids = [pid for pipe in pipes for pid in waiting.receive(pipe)]
        pids = pids or [int(os.environ["SLACKLINE_BENCH_AGENT"])]
        together.wait()
        begin, used = now(), sum(map(processor_seconds, pids))
        together.wait()
        used, lasted = sum(map(processor_seconds, pids)) - used, (now() - begin) / 1e9
        results = [waiting.receive(pipe) for pipe in pipes]
    begins, ends, found = (sum((result[k] for result in results), []) for k in range(3))
    fed = sum(result[4] for result in results)
    return begins, ends, found, sum(result[3] for result in results), (used + fed) / lasted * 100


class Waiting:
    """Waits for ranks, but not for one that has failed."""

    def __init__(self, ranks, together):
        self.ranks, self.together = ranks, together

    def receive(self, pipe):
        while not pipe.poll(0.1):
            if any(rank.exitcode for rank in self.ranks):
                self.together.abort()
                raise SystemExit("hook_bench.py: a rank has failed")
        return pipe.recv()

    def close(self):
        for rank in self.ranks:
            rank.join(30)


def quantile(values, part):
    return sorted(values)[max(0, -(-len(values) * part // 100) - 1)]


def cells(runs, unit, decimals):
    """Median and 99th percentile: of all runs the median, the least and the most."""
    row = []
    for part in 50, 99:
        values = [quantile(values, part) / unit for values in runs]
        middle, least, most = statistics.median_low(values), min(values), max(values)
        row.append(f"{middle:.{decimals}f} ({least:.{decimals}f}-{most:.{decimals}f})")
    return row


def print_table(header, rows):
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(map(str, row)) + " |")


def main():
    parser = argparse.ArgumentParser(prog="hook_bench.py", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each client, by turns (5)")
    parser.add_argument("--seconds", type=int, default=10, help="of a run; as hook_bench --within was told (10)")
    arguments = parser.parse_args()
    instructions = arguments.seconds * REQUESTS_PER_SECOND + 1
    warm, results = ({client: [] for client in CLIENTS} for _ in range(2))
    for _ in range(arguments.runs):
        for client in CLIENTS:
            warm[client].append(run(client, 1, instructions, is_warm=True))
            results[client].append(run(client, GPUS, instructions, is_warm=False))
    print(
        f"zeus {importlib.metadata.version('zeus')}, Python {sys.version.split()[0]}, {arguments.runs} runs by turns; "
        f"asleep between calls: {GPUS} processes x {REQUESTS_PER_SECOND} requests a second, {arguments.seconds} s"
    )
    costs, delays = [], []
    for between, of_clients in ("spins", warm), ("sleeps", results):
        for client, runs in of_clients.items():
            begins, ends, *_ = zip(*runs)
            both = [[begin + end for begin, end in zip(*run)] for run in zip(begins, ends)]
            costs.append([client.name, between])
            for values in begins, ends, both:
                costs[-1] += cells(values, 1e3, 1)
    for client, runs in results.items():
        _, _, found, posts, percents = zip(*runs)
        delays.append([client.name, *cells(found, 1e3, 0), f"{max(map(max, found)) / 1e3:.0f}"])
        delays[-1] += [f"{sum(posts) - sum(map(len, found))} of {sum(posts)}"]
        delays[-1] += [f"{statistics.median_low(percents):.1f} ({min(percents):.1f}-{max(percents):.1f})"]
    print_table(["hook", "process", "begin (us)", "p99", "end (us)", "p99", "both (us)", "p99"], costs)
    print()
    print_table(
        ["client", "to the driver (us)", "p99", "largest", "overtaken", "processor use besides (% of a core)"], delays
    )


if __name__ == "__main__":
    main()
