"""Plans one profile with lowtime, the library of Perseus, and with slackline: how long each takes, and the energy of the
clocks that each picks, at equal time, by one evaluator. Run by lowtime_bench.sh, which installs lowtime.
"""

import argparse
import csv
import itertools
import logging
import re
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import networkx as nx
from lowtime.cost_model import ExponentialModel
from lowtime.graph_utils import DependencyResolver, add_sink_node, add_source_node
from lowtime.operation import CandidateExecutionOptions, ExecutionOption, OperationSpec
from lowtime.perseus.instruction import Backward, Forward, Instruction, backward_dep, forward_dep
from lowtime.perseus.schedule import Synchronous1F1B
from lowtime.solver import PhillipsDessouky

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "profiles/gpt3-175b-a100-sxm.csv"
SLACKLINE = ROOT / "build/release/slackline"
PLAN_BENCH = ROOT / "build/release/bench/plan_bench"
BLOCKING_W = 83.64  # of an A100 SXM
UNIT_TIME_S = 0.001
ROUNDING_S = 1e-9  # more than that of sums of measured times
RUNS = 5  # of slackline, for the median


def read_profile():
    """Seconds and joules by clock, of each (stage, kind)."""
    profile = {}
    with open(PROFILE, newline="") as file:
        for row in csv.DictReader(file):
            options = profile.setdefault((int(row["stage"]), row["instruction"]), {})
            options[int(row["frequency"])] = (float(row["time"]), float(row["energy"]))
    return profile


def key(instruction):
    return instruction.stage_id, type(instruction).__name__.lower(), instruction.micro_batch_id


class Evaluator:
    """What clocks really give: the longest path of measured times, and waiting at the blocking power."""

    def __init__(self, profile, dag):
        self.profile = profile
        keys = {node: key(data["op"]) for node, data in dag.nodes(data=True) if not data["op"].is_dummy}
        self.before = {
            keys[node]: [keys[p] for p in dag.predecessors(node) if p in keys]
            for node in nx.topological_sort(dag)
            if node in keys
        }

    def __call__(self, clocks):
        end, busy, energy = {}, 0.0, 0.0
        for instruction, before in self.before.items():
            seconds, joules = self.profile[instruction[:2]][clocks[instruction]]
            end[instruction] = max((end[p] for p in before), default=0.0) + seconds
            busy += seconds
            energy += joules
        iteration = max(end.values())
        stages = len({stage for stage, _, _ in end})
        return iteration, energy + BLOCKING_W * (stages * iteration - busy)

    def all_max(self):
        return self({i: max(self.profile[i[:2]]) for i in self.before})


def lowtime_spec(options):
    candidates = CandidateExecutionOptions(
        [
            ExecutionOption(real_time=seconds, unit_time=UNIT_TIME_S, cost=joules, knob=clock)
            for clock, (seconds, joules) in options.items()
        ]
    )
    for option in candidates.options:
        option.cost -= BLOCKING_W * option.quant_time * option.unit_time
    return OperationSpec(options=candidates, cost_model=ExponentialModel(candidates))


def lowtime_dag(profile, microbatches):
    stages = 1 + max(stage for stage, _ in profile)
    specs = {(stage, kind): lowtime_spec(options) for (stage, kind), options in profile.items()}
    dag = nx.DiGraph()
    ids = itertools.count(2)  # 0 and 1 are the source and the sink
    for stage in range(stages):
        order = Synchronous1F1B(
            num_stages=stages,
            num_micro_batches=microbatches,
            stage_id=stage,
            operation_spec_map={Forward: specs[stage, "forward"], Backward: specs[stage, "backward"]},
        )
        nodes = [(next(ids), instruction) for instruction in order]
        dag.add_nodes_from((node, {"op": instruction}) for node, instruction in nodes)
        nx.add_path(dag, [node for node, _ in nodes])
    resolver = DependencyResolver([forward_dep, backward_dep], node_type=Instruction)
    for (a, first), (b, second) in itertools.permutations(list(dag.nodes(data="op")), 2):
        if resolver.is_dependent(first, second):
            dag.add_edge(a, b)
    add_source_node(dag, 0)
    add_sink_node(dag, 1)
    dag.graph.update(source_node=0, sink_node=1)
    return dag


def lowtime_frontier(dag):
    """Seconds that it took, and the clocks of every point, the slowest first."""
    instructions = [op for _, op in dag.nodes(data="op") if not op.is_dummy]
    points = []
    begin = time.perf_counter()
    for _ in PhillipsDessouky(dag).run():
        points.append([op.assigned_knob for op in instructions])
    seconds = time.perf_counter() - begin
    keys = [key(op) for op in instructions]
    return seconds, [dict(zip(keys, clocks)) for clocks in points]


def frontier_seconds(microbatches):
    """Of slackline's exact frontier alone, by plan_bench's table."""
    command = [PLAN_BENCH, f"--benchmark_filter=gpt3-175b 8x{microbatches}/"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    header, row = (re.split("  +", line.strip()) for line in table.splitlines())
    return float(dict(zip(header, row))["median (ms)"]) / 1e3


def slackline_plan(microbatches, plans, deadline):
    """Median seconds of the whole process, and the clocks of the plan that it chooses."""
    with tempfile.TemporaryDirectory() as folder:
        schedule, clocks = Path(folder, "schedule.yaml"), Path(folder, "clocks.csv")
        plan = [SLACKLINE, "plan", PROFILE, "--microbatches", str(microbatches), "--blocking-power", str(BLOCKING_W)]
        plan += ["--plans", str(plans), "--deadline", f"{deadline + ROUNDING_S:.12f}", "-o", schedule]
        seconds = []
        for _ in range(RUNS):
            begin = time.perf_counter()
            subprocess.run(plan, check=True, capture_output=True)
            seconds.append(time.perf_counter() - begin)
        subprocess.run([SLACKLINE, "inspect", schedule, "--clocks-csv", clocks], check=True, capture_output=True)
        with open(clocks, newline="") as file:
            return statistics.median(seconds), {
                (int(row["stage"]), row["instruction"], int(row["microbatch"])): int(row["clock_mhz"])
                for row in csv.DictReader(file)
            }


def compare(profile, microbatches, times, energies):
    """Adds a row to `times` and one to `energies` for each of lowtime's points that is looked at."""
    dag = lowtime_dag(profile, microbatches)
    evaluate = Evaluator(profile, dag)
    lowtime_seconds, points = lowtime_frontier(dag)
    results = [evaluate(clocks) for clocks in points]
    fastest, cheapest = min(results), min(results, key=lambda result: result[1])

    row = [microbatches, len(points), f"{lowtime_seconds:.1f}"]
    whole_process, _ = slackline_plan(microbatches, 32, fastest[0])
    for seconds in frontier_seconds(microbatches), whole_process:
        row += [f"{seconds:.4f}", f"{lowtime_seconds / seconds:.0f}"]
    times.append(row)

    all_max_time, all_max_energy = evaluate.all_max()
    for name, (iteration, energy) in {"fastest": fastest, "least energy": cheapest}.items():
        _, clocks = slackline_plan(microbatches, 1, iteration)
        our_iteration, our_energy = evaluate(clocks)
        assert our_iteration <= iteration + 2 * ROUNDING_S, "slackline missed the deadline"
        energies.append(
            [
                microbatches,
                name,
                f"{iteration:.4f}",
                f"{(iteration / all_max_time - 1) * 100:+.2f}",
                f"{energy:.1f}",
                f"{our_energy:.1f}",
                f"{(our_energy / energy - 1) * 100:+.2f}",
                f"{(1 - energy / all_max_energy) * 100:.2f}",
                f"{(1 - our_energy / all_max_energy) * 100:.2f}",
            ]
        )


def print_table(header, rows):
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(map(str, row)) + " |")


def main():
    parser = argparse.ArgumentParser(prog="lowtime_bench", description=__doc__)
    parser.add_argument(
        "microbatches", type=int, nargs="*", default=[12, 24], help="of an iteration: of 12, 24, 48, 96 (12 24)"
    )
    arguments = parser.parse_args()
    if not {12, 24, 48, 96}.issuperset(arguments.microbatches):
        parser.error("plan_bench times 12, 24, 48 and 96 microbatches")
    warnings.filterwarnings("ignore")  # scipy's, while fits are tried
    logging.disable()
    profile = read_profile()
    times, energies = [], []
    for microbatches in arguments.microbatches:
        compare(profile, microbatches, times, energies)
    print_table(
        ["microbatches", "lowtime's points", "lowtime (s)", "frontier (s)", "ratio", "32 plans (s)", "ratio"], times
    )
    print()
    print_table(
        [
            "microbatches", "at lowtime's", "time (s)", "over all-max (%)", "lowtime (J)", "slackline (J)",
            "difference (%)", "lowtime saves (%)", "slackline saves (%)",
        ],
        energies,
    )  # fmt: skip


if __name__ == "__main__":
    main()
