"""A pipeline of transformer blocks on CPU and gloo, as torchrun starts it. Writes its losses to --losses.

The blocks are tiny: on simulated GPUs it is the simulator that decides how long an instruction takes.
"""
import argparse
import json

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, schedules

WIDTH, TOKENS, SEQUENCES = 32, 8, 2


def fix_gloo():
    """Before torch 2.8 `_batch_p2p` waits for the last of its messages only, which hangs on gloo (issue 132644)."""
    if tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 8):
        return

    class All:
        def __init__(self, works):
            self.works = works

        def wait(self):
            for work in self.works:
                work.wait()

    def batch(ops, desc=None):
        return All(dist.batch_isend_irecv(ops)) if ops else None

    schedules._batch_p2p = batch


def block():
    return nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True)


def stages_of(rank, ranks, count, placement):
    stages = []
    for stage in range(count):
        along = stage % ranks
        holder = ranks - 1 - along if placement == "v" and stage // ranks % 2 else along
        if holder == rank:
            stages.append(stage)
    return stages


def make_schedule(flags, stages):
    def loss_of(output, target):
        return nn.functional.mse_loss(output, target)

    if flags.csv:
        kind = schedules._PipelineScheduleRuntime
        made = kind(stages, flags.microbatches, loss_fn=loss_of)
        made._load_csv(flags.csv, format="compute_only")
        return made
    kind = schedules.get_schedule_class(flags.schedule)
    single = issubclass(kind, schedules.PipelineScheduleSingle)
    return kind(stages[0] if single else stages, flags.microbatches, loss_fn=loss_of)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedule", default="1F1B")
    parser.add_argument("--csv", default="")
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--placement", default="loop")
    parser.add_argument("--pipelines", type=int, default=1)
    parser.add_argument("--strided", action="store_true", help="a pipeline's ranks are not neighbours")
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="0: until terminated")
    parser.add_argument("--losses", default="")
    parser.add_argument("--attach", action="store_true", help="attach by a line of this script")
    flags = parser.parse_args()
    fix_gloo()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    world, rank = dist.get_world_size(), dist.get_rank()
    ranks = world // flags.pipelines
    number = {}  # of the process at a place
    for place in range(world):
        where = divmod(place, ranks) if not flags.strided else (place % flags.pipelines, place // flags.pipelines)
        number[where] = place
        if place == rank:
            pipeline, mine = where
    groups = [dist.new_group([number[p, r] for r in range(ranks)]) for p in range(flags.pipelines)]
    replicas = [dist.new_group([number[p, r] for p in range(flags.pipelines)]) for r in range(ranks)]
    count = ranks * flags.chunks
    torch.manual_seed(7)
    blocks = [block() for _ in range(count)]
    held = stages_of(mine, ranks, count, flags.placement)
    data = torch.zeros(SEQUENCES, TOKENS, WIDTH)
    activations = data.clone().requires_grad_()
    stages = [
        PipelineStage(blocks[s], s, count, torch.device("cpu"), input_args=(activations if s else data,),
                      output_args=(activations,), group=groups[pipeline])
        for s in held
    ]
    schedule = make_schedule(flags, stages)
    if flags.attach:
        import slackline

        slackline.attach(schedule)
    parameters = [p for s in held for p in blocks[s].parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    losses = []
    step = 0
    while flags.steps == 0 or step < flags.steps:
        torch.manual_seed(1000 * step + pipeline)
        batch = torch.randn(flags.microbatches * SEQUENCES, TOKENS, WIDTH)
        target = torch.randn(flags.microbatches * SEQUENCES, TOKENS, WIDTH)
        optimizer.zero_grad()
        found = []
        arguments = (batch,) if 0 in held else ()
        if count - 1 in held:
            schedule.step(*arguments, target=target, losses=found)
        else:
            schedule.step(*arguments)
        losses.append([loss.item() for loss in found])
        if flags.pipelines > 1:
            for parameter in parameters:
                dist.all_reduce(parameter.grad, group=replicas[mine])
        # As everybody does who clips gradients: all ranks wait for each other.
        norm = sum(parameter.grad.square().sum() for parameter in parameters)
        dist.all_reduce(norm)
        for parameter in parameters:
            parameter.grad.mul_(1 / (1 + norm.sqrt()))
        optimizer.step()
        step += 1
    if flags.losses:
        with open(f"{flags.losses}.{rank}", "w", encoding="utf-8") as file:
            json.dump(losses, file)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
