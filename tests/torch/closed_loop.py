#!/usr/bin/env python3
"""Real torch jobs under Slackline: profile, plan and apply on simulated GPUs, in the time of the host.

    closed_loop.py BUILD [CASE...]      with a Python that has torch; BUILD holds slackline and libslackline.so

Every case prints what it has found, and ends the run if it is not what was promised.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
BUILD = Path(sys.argv[1]).resolve()
SLACKLINE = str(BUILD / "slackline")
TORCH = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2])
RANKS, MICROBATCHES, PACE = 4, 8, 1
WEIGHTS = [1.0, 0.85, 0.9, 1.2, 0.8, 0.95, 1.1, 0.9]
CLOCKS = [1400, 1200, 1000]
UNIT = 0.06  # seconds of a forward


def profile_text(stages):
    """A model cut into stages, and GPUs whose time and power are simple functions of the clock. As torch does it,
    the first stage's backward-input is next to nothing and its backward-weight all of the backward."""
    lines = ["slackline: profile/1", "model: tiny transformer", "gpu: made for the tests", "stages:"]
    for stage in range(stages):
        lines += [f"  - stage: {stage}", "    tensor_parallel: 1", "    blocking_power_w: 80", "    instructions:"]
        kinds = {
            "forward": 1,
            "backward": 2,
            "backward-input": 1 if stage else 0.1,
            "backward-weight": 1 if stage else 1.9,
        }
        for kind, work in kinds.items():
            lines += [f"      - kind: {kind}", "        options:"]
            for clock in CLOCKS:
                share = clock / CLOCKS[0]
                time_s = UNIT * WEIGHTS[stage] * work * (0.35 + 0.65 / share)
                energy_j = time_s * (100 + 230 * share**2.2)
                lines.append(f"          - {{clock_mhz: {clock}, time_s: {time_s:.9g}, energy_j: {energy_j:.9g}}}")
    return "\n".join(lines) + "\n"


class Place:
    """A folder to work in, with a runtime folder of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        for stages in (2, 4, 8):
            self.file(f"truth{stages}.yaml").write_text(profile_text(stages), encoding="utf-8")

    def file(self, name):
        return self.folder / name

    def environment(self, **more):
        # The package of this Python, if it has one, else as it was built.
        built = {} if find_spec("slackline") else {"PYTHONPATH": str(BUILD / "python")}
        return {
            **os.environ,
            **built,
            "SLACKLINE_RUNTIME_DIR": str(self.file("run")),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "USE_LIBUV": "0",
            **more,
        }

    def run(self, arguments, *, limit=240, status=0):
        found = subprocess.run(
            [str(a) for a in arguments], env=self.environment(), capture_output=True, text=True, timeout=limit,
            cwd=self.folder, check=False,
        )
        if status is not None and found.returncode != status:
            fail(f"{arguments}\nended with {found.returncode}:\n{found.stderr[-4000:]}")
        return found

    def slackline(self, *arguments, **options):
        return self.run([SLACKLINE, *arguments], **options)


def fail(text):
    sys.exit(f"closed_loop: {text}")


def check(holds, text):
    if not holds:
        fail(text)


def torchrun(*flags, launcher=("--standalone",), processes=RANKS, module=True):
    run = [sys.executable, "-m", "torch.distributed.run", *launcher, "--nproc-per-node", processes]
    return [*run, *(("-m", "slackline", "run") if module else ()), HERE / "train.py", *flags]


def losses_of(place, name):
    return [json.loads(place.file(f"{name}.{r}").read_text(encoding="utf-8")) for r in range(RANKS)]


def off(measured, predicted):
    return abs(measured / predicted - 1)


def check_phases(name, report):
    """As predicted to 3 %, and the saving to a point."""
    for phase in report:
        time_off = off(phase["time_s"], phase["predicted_time_s"])
        energy_off = off(phase["energy_j"], phase["predicted_energy_j"])
        print(f"  {name}: {phase['phase']}: time off by {time_off:.2%}, energy by {energy_off:.2%}", flush=True)
        check(time_off < 0.03 and energy_off < 0.03, f"{name}: {json.dumps(report, indent=1)}")
    planned = [phase for phase in report if phase["phase"] == "planned"]
    check(len(planned) == 1 and planned[0]["steps"] >= 3, f"{name}: {json.dumps(report, indent=1)}")
    saved, promised = planned[0]["saved_percent"], planned[0]["predicted_saved_percent"]
    print(f"  {name}: saved {saved:.2f} %, promised {promised:.2f} %", flush=True)
    check(abs(saved - promised) < 1, f"{name}: {json.dumps(report, indent=1)}")


class Schedule:
    """One of torch's, and what it is called in Slackline."""

    def __init__(self, order, flags=(), chunks=1, placement="loop"):
        self.order, self.chunks, self.placement = order, chunks, placement
        self.flags = [*flags, "--chunks", str(chunks), "--placement", placement]

    def device(self, place):
        truth = place.file(f"truth{RANKS * self.chunks}.yaml")
        return f"sim:{truth},pace={PACE},ranks={RANKS},placement={self.placement}"


def schedules(place):
    csv = place.file("order.csv")
    place.slackline("order", "--order", "gpipe", "--ranks", RANKS, "--microbatches", MICROBATCHES, "--csv", csv)
    return {
        "1f1b": Schedule("1f1b"),
        "interleaved": Schedule("interleaved-1f1b", ["--schedule", "Interleaved1F1B"], 2),
        "zb1p": Schedule("zb-h1", ["--schedule", "InterleavedZeroBubble"], 2),
        "zbv": Schedule("zbv", ["--schedule", "ZBVZeroBubble"], 2, "v"),
        "csv": Schedule(f"csv:{csv}", ["--csv", str(csv)]),
    }


def closed_loop(place, name, schedule):
    """profile -> plan -> apply; what is trained does not change."""
    device = schedule.device(place)
    mine, plan = place.file(f"{name}.yaml"), place.file(f"{name}-plan.yaml")
    place.slackline("profile", "--device", device, "--one-way", "--most-steps", 3, "-o", mine, "--",
                    *torchrun(*schedule.flags, "--steps", 0))
    order = ["--order", schedule.order]
    if not schedule.order.startswith("csv"):
        order += ["--microbatches", MICROBATCHES]
        order += ["--chunks", schedule.chunks] if schedule.order == "zb-h1" else []
    place.slackline("plan", mine, *order, "-o", plan)
    place.run(torchrun(*schedule.flags, "--steps", 6, "--losses", place.file("plain"), module=False))
    applied = place.slackline("apply", plan, "--device", device, "--baseline-steps", 2, "--tolerance", 5, "--json",
                              "--", *torchrun(*schedule.flags, "--steps", 6, "--losses", place.file("with")))
    check(losses_of(place, "plain") == losses_of(place, "with"), f"{name}: losses differ")
    check_phases(name, json.loads(applied.stdout))


def straggler(place):
    """A notice comes and goes; the other pipeline follows."""
    plan = place.file("two.yaml")
    place.slackline("plan", place.file("truth2.yaml"), "--data-parallel", 2, "--microbatches", MICROBATCHES, "-o", plan)
    device = f"sim:{place.file('truth2.yaml')},pace={PACE},pipelines=2"
    arguments = [SLACKLINE, "apply", plan, "--device", device, "--job", "two", "--json", "--tolerance", 5,
                 "--baseline-steps", 1, "--", *torchrun("--pipelines", 2, "--steps", 12)]
    with subprocess.Popen([str(a) for a in arguments], env=place.environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as job:
        unknown = place.slackline("straggler", "--job", "three", "--slowdown", 1.2, status=2)
        check("there is no job 'three'" in unknown.stderr, unknown.stderr)
        notify(place, "two", 1.2)
        time.sleep(9)
        place.slackline("straggler", "--job", "two", "--pipeline", 1, "--slowdown", 1)
        out, err = job.communicate(timeout=120)
    check(job.returncode == 0, err)
    report = json.loads(out)
    followed = [p for p in report if p["pipeline"] == 0 and p["phase"].startswith("plan ")]
    check(len(followed) == 1 and 4 <= followed[0]["steps"] <= 9, f"{report}\n{err}")
    check(not any(p["phase"].startswith("plan ") for p in report if p["pipeline"] == 1), f"{report}")
    check(not any(p["phase"] == "released" for p in report), f"ranks of a pipeline differed: {report}")
    late = followed[0]["time_s"] / report[0]["predicted_time_s"]
    print(f"  straggler: followed for {followed[0]['steps']} steps, {late:.2f} times as long", flush=True)
    check(1.1 < late <= 1.22, f"{report}")
    for phase in report:
        check(off(phase["energy_j"], phase["predicted_energy_j"]) < 0.03, f"{report}")


def notify(place, job, slowdown):
    for _ in range(120):
        found = place.slackline("straggler", "--job", job, "--pipeline", 1, "--slowdown", slowdown, status=None)
        if found.returncode == 0:
            return
        time.sleep(0.5)
    fail(f"straggler: {found.stderr}")


def two_nodes(place):
    """Two pipelines across two nodes, each with an apply of its own; they agree through the job's store."""
    plan = place.file("nodes.yaml")
    place.slackline("plan", place.file("truth2.yaml"), "--data-parallel", 2, "--microbatches", MICROBATCHES, "-o", plan)
    jobs = []
    for node in range(2):
        device = f"sim:{place.file('truth2.yaml')},pace={PACE},pipelines=2"
        launcher = ["--nnodes", 2, "--node-rank", node, "--master-addr", "127.0.0.1", "--master-port", 29511]
        arguments = [SLACKLINE, "apply", plan, "--device", device, "--job", f"node{node}", "--json", "--tolerance", 5,
                     "--baseline-steps", 1, "--",
                     *torchrun("--pipelines", 2, "--strided", "--steps", 12, launcher=launcher, processes=2)]
        jobs.append(subprocess.Popen([str(a) for a in arguments], env=place.environment(), stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True))
    notify(place, "node1", 1.2)  # pipeline 0 has its rank 0 on the other node
    for node, job in enumerate(jobs):
        out, err = job.communicate(timeout=180)
        check(job.returncode == 0, err)
        report = json.loads(out)
        followed = [p for p in report if p["pipeline"] == 0 and p["phase"].startswith("plan ")]
        check(len(followed) == 1 and followed[0]["steps"] >= 5, f"node {node}: {report}\n{err}")
        check(not any(p["phase"].startswith("plan ") for p in report if p["pipeline"] == 1), f"{report}")
        check(followed[0]["predicted_energy_j"] is None, f"{report}")  # half of the pipeline is elsewhere
        print(f"  two nodes: node {node} followed for {followed[0]['steps']} steps", flush=True)


def wrong_order(place):
    """A schedule for another order: the first difference is named, no clock is set, training goes on."""
    plan = place.file("other.yaml")
    place.slackline("plan", place.file("truth4.yaml"), "--order", "gpipe", "--microbatches", MICROBATCHES, "-o", plan)
    device = Schedule("1f1b").device(place)
    found = place.slackline("apply", plan, "--device", device, "--", *torchrun("--steps", 3))
    named = re.search(r"the job runs backward of microbatch 0 on stage \d where the schedule has forward of microbatch",
                      found.stderr)
    check(named, found.stderr)
    check("planned" not in found.stdout, found.stdout)
    fewer = place.file("fewer.yaml")
    place.slackline("plan", place.file("truth2.yaml"), "--microbatches", MICROBATCHES, "-o", fewer)
    device = f"sim:{place.file('truth2.yaml')},pace={PACE}"
    found = place.slackline("apply", fewer, "--device", device, "--", *torchrun("--steps", 3), status=2)
    check("the schedule is for 2 ranks, the job has 4" in found.stderr, found.stderr)


def killed_rank(place):
    """A rank is killed: the job ends as it would without us, nothing hangs, nothing is left."""
    plan = place.file("killed.yaml")
    place.slackline("plan", place.file("truth4.yaml"), "--microbatches", MICROBATCHES, "-o", plan)
    arguments = [SLACKLINE, "apply", plan, "--device", Schedule("1f1b").device(place), "--",
                 *torchrun("--steps", 40)]
    with subprocess.Popen([str(a) for a in arguments], env=place.environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as job:
        time.sleep(16)
        ranks = subprocess.run(["pgrep", "-f", f"{sys.executable} -u .*train.py"], capture_output=True, text=True,
                               check=False).stdout.split()
        check(len(ranks) >= RANKS, f"no ranks: {ranks}")
        os.kill(int(ranks[-1]), signal.SIGKILL)
        _, err = job.communicate(timeout=120)
    check(job.returncode != 0, "a job with a killed rank has succeeded")
    left = [p.name for p in place.file("run").iterdir() if p.name != "journal"]
    check(not left and not any(place.file("run/journal").iterdir()), f"left: {left}\n{err}")


def readme(place):
    """The example of the README, as printed."""
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    check(len(example.splitlines()) < 10, "the README's example has ten lines or more")
    place.file("train.py").write_text(example, encoding="utf-8")
    plan = place.file("readme.yaml")
    place.slackline("plan", place.file("truth4.yaml"), "--microbatches", 4, "-o", plan)
    job = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 4, place.file("train.py")]
    found = place.slackline("apply", plan, "--device", Schedule("1f1b").device(place), "--", *job)
    check("planned" in found.stdout, found.stdout + found.stderr)
    print("".join(f"  {line}\n" for line in found.stdout.splitlines()), end="")


def main():
    wanted = sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="slackline-torch-") as folder:
        place = Place(folder)
        cases = {
            **{name: (closed_loop, name, schedule) for name, schedule in schedules(place).items()},
            "straggler": (straggler,),
            "two-nodes": (two_nodes,),
            "wrong-order": (wrong_order,),
            "killed-rank": (killed_rank,),
            "readme": (readme,),
        }
        if TORCH < (2, 8):
            del cases["zbv"]  # which torch 2.6 itself does not run: it takes the loop's places for the V's
            del cases["readme"]  # which gloo would hang
        unknown = set(wanted) - set(cases)
        check(not unknown, f"unknown: {unknown}; known: {', '.join(cases)}")
        for name in wanted or cases:
            begin = time.monotonic()
            print(f"{name}, torch {torch.__version__}", flush=True)
            case, *arguments = cases[name]
            case(place, *arguments)
            shutil.rmtree(place.file("run"), ignore_errors=True)
            print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    print("all passed")


if __name__ == "__main__":
    main()
