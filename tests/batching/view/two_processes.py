"""One of two gloo processes: the gradients of DistributedDataParallel(bale.batch(model)) against the averaged loop."""

import datetime
import os
import sys

import torch
import torch.distributed as dist
from small import Tree, trees
from torch.nn.parallel import DistributedDataParallel

import bale


def main(rank: int, meeting: str) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    torch.manual_seed(0)
    model = Tree()
    parallel = DistributedDataParallel(bale.batch(model, check="always"))
    shards = [trees()[:3], trees()[2:]]
    for _ in range(2):  # DDP rebuilds its buckets after the first step
        parallel.zero_grad()
        torch.stack(parallel(shards[rank])).square().sum().backward()
        got = [p.grad.clone() for p in model.parameters()]
    losses = [torch.stack([model(tree) for tree in shard]).square().sum() for shard in shards]
    wanted = torch.autograd.grad(sum(losses) / 2, list(model.parameters()))
    for out, want in zip(got, wanted, strict=True):
        assert torch.allclose(out, want, rtol=0, atol=1e-10 * want.abs().max().item()), (out, want)
    dist.destroy_process_group()
    print("equal", flush=True)
    os._exit(0)  # a thread of gloo's, if it still runs when the interpreter is torn down, aborts the process


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
