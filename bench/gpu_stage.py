#!/usr/bin/env python3
"""A transformer stage on one GPU: what it costs by a long loop, and by `slackline profile`.

    gpu_stage.py compare --slackline build/release/slackline [--gpu 0] [--seconds 30]

Runs forward and backward alone for --seconds each and divides the energy counter's difference, from refresh to
refresh, by their number. Then profiles the same stage twice, with --isolated and in steps as a pipeline has
them, sets no clock (--read-only), and prints how far both estimates are from the loop. Needs torch, and
nvidia-ml-py for the loop, which uses nothing of Slackline's.
"""
import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import time

KINDS = {"forward": 0, "backward": 1}


class Client:
    """libslackline, as a trainer uses it."""

    def __init__(self, library):
        self.lib = ctypes.CDLL(library)
        self.lib.slackline_instruction_took.argtypes = [ctypes.c_void_p, ctypes.c_double]
        for name in ("step_begin", "step_end", "instruction_end", "instruction_again", "close"):
            getattr(self.lib, "slackline_" + name).argtypes = [ctypes.c_void_p]
        self.lib.slackline_instruction_begin.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        session = ctypes.c_void_p()
        if self.lib.slackline_open(0, 1, ctypes.byref(session)) != 0:
            sys.exit("slackline_open failed")
        self.session = session

    def call(self, name, *arguments):
        return getattr(self.lib, "slackline_" + name)(self.session, *arguments)


class Stage:
    """Two layers of GPT-3 6.7B's width, bfloat16, one microbatch."""

    def __init__(self):
        import torch

        self.torch = torch
        torch.manual_seed(1)
        layer = torch.nn.TransformerEncoderLayer(
            4096, 32, 4 * 4096, dropout=0.0, batch_first=True, norm_first=True, device="cuda", dtype=torch.bfloat16)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.input = torch.randn(4, 2048, 4096, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        self.gradient = torch.randn_like(self.input)
        self.output = self.layers(self.input)

    def run(self, kind):
        """Seconds by the device's own events."""
        begin = self.torch.cuda.Event(enable_timing=True)
        end = self.torch.cuda.Event(enable_timing=True)
        begin.record()
        if kind == "forward":
            self.output = self.layers(self.input)
        else:
            self.output.backward(self.gradient, retain_graph=True)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


class Counter:
    """NVIDIA's energy counter, in joules, from refresh to refresh."""

    def __init__(self, gpu):
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(gpu)
        self.read = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        self.celsius = lambda: pynvml.nvmlDeviceGetTemperature(handle, 0)
        self.mhz = lambda: pynvml.nvmlDeviceGetClockInfo(handle, 1)

    def at_refresh(self):
        """Waits for the next refresh; when that was, and what the counter shows."""
        last = self.read()
        while True:
            value = self.read()
            if value != last:
                return time.monotonic(), value


def loop(stage, kind, seconds, counter):
    """Runs `kind` alone, from just after a refresh of the counter to just before one; time and energy of a run. The
    counter is not read meanwhile: that would keep the GPU waiting. What it draws while the last refresh is awaited
    is taken out."""
    for _ in range(20):
        stage.run(kind)
    begin = counter.at_refresh()
    times = []
    while time.monotonic() - begin[0] < seconds:
        times.append(stage.run(kind))
    stop = time.monotonic()
    first = counter.at_refresh()
    second = counter.at_refresh()
    idle = (second[1] - first[1]) / (second[0] - first[0]) * (first[0] - stop)
    runs = len(times)
    energy = first[1] - begin[1] - idle
    return {"runs": runs, "time_s": sum(times) / runs, "energy_j": energy / runs, "power_w": energy / (stop - begin[0]),
            "celsius": counter.celsius(), "mhz": counter.mhz()}


def train(arguments):
    """Under `slackline profile`: alone in loops, or in steps with waits."""
    client = Client(arguments.library)
    stage = Stage()
    dice = random.Random(1)

    def instruction(kind):
        client.call("instruction_begin", KINDS[kind], -1)
        client.call("instruction_took", stage.run(kind))
        client.call("instruction_end")

    while True:
        if arguments.isolated:
            for kind in KINDS:
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    instruction(kind)
            continue
        client.call("step_begin")
        time.sleep(dice.uniform(0.02, 0.2))
        ahead = 3
        for microbatch in range(16 + ahead):
            if microbatch < 16:
                instruction("forward")
            if dice.random() < 0.3:
                time.sleep(dice.uniform(0.005, 0.1))
            if microbatch >= ahead:
                instruction("backward")
        client.call("step_end")
        time.sleep(0.01)


def profile(arguments, isolated):
    """What `slackline profile` finds, by kind."""
    output = "/tmp/gpu_stage_profile.yaml"
    command = [arguments.slackline, "profile", "--read-only", "--device", arguments.device or f"nvml:{arguments.gpu}", "--precision", "0.1",
               "--restart", "-o", output]
    command += ["--isolated"] if isolated else ["--most-steps", "60"]
    command += ["--", sys.executable, os.path.abspath(__file__), "train", "--library", arguments.library]
    command += ["--isolated"] if isolated else []
    begin = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: {result.stderr}")
    report = subprocess.run([arguments.slackline, "inspect", output, "--json"], capture_output=True, text=True)
    print(result.stderr, result.stdout, open(output).read(), sep="\n", file=sys.stderr)
    import re

    found = {}
    text = open(output).read()
    for kind in KINDS:
        row = re.search(r"kind: " + kind + r"\n\s+options:\n\s+- \{(.*)\}", text).group(1)
        found[kind] = {key: float(value) for key, value in re.findall(r"(\w+): ([-0-9.e+]+)", row)}
    found["seconds"] = time.monotonic() - begin
    found["inspect"] = report.stdout
    return found


def compare(arguments):
    stage = Stage()
    counter = Counter(arguments.gpu)
    loop(stage, "forward", arguments.warm_up, counter)  # warm
    reference = {}
    for kind in KINDS:
        reference[kind] = loop(stage, kind, arguments.seconds, counter)
        print(kind, "alone", json.dumps(reference[kind]), flush=True)
    del stage
    for isolated in (True, False):
        found = profile(arguments, isolated)
        name = "isolated" if isolated else "in steps"
        for kind in KINDS:
            one, truth = found[kind], reference[kind]
            off = {key: round((one.get(value, 0) / truth[of] - 1) * 100, 2)
                   for key, value, of in (("time", "time_s", "time_s"), ("interpolation", "energy_j", "energy_j"),
                                          ("regression", "second_energy_j", "energy_j"))}
            print(name, kind, "off by percent", json.dumps(off), json.dumps(one), f"{found['seconds']:.0f} s", flush=True)
    stage = Stage()
    for kind in KINDS:  # once more: what has changed since is not the profile's
        again = loop(stage, kind, arguments.seconds / 3, counter)
        print(kind, "alone again", json.dumps(again), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("--slackline", default="build/release/slackline")
    comparing.add_argument("--library", default="")
    comparing.add_argument("--gpu", type=int, default=0)
    comparing.add_argument("--device", default="", help="for slackline, where nvml:GPU is not enough")
    comparing.add_argument("--seconds", type=float, default=30)
    comparing.add_argument("--warm-up", type=float, default=15)
    comparing.set_defaults(run=compare)
    training = commands.add_parser("train")
    training.add_argument("--library", required=True)
    training.add_argument("--isolated", action="store_true")
    training.set_defaults(run=train)
    arguments = parser.parse_args()
    if not arguments.library:
        arguments.library = os.path.join(os.path.dirname(os.path.abspath(arguments.slackline)), "libslackline.so")
    arguments.run(arguments)


if __name__ == "__main__":
    main()
