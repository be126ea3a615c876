"""A batched model inside the programs around it: torch.compile, DistributedDataParallel, DataLoader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from same import assert_all_close
from small import WIDTH, Tree, trees, vectors
from torch import nn
from torch.utils.data import DataLoader, Dataset

import bale

HERE = Path(__file__).parent


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo asks for it
def test_torch_compile_of_a_function_that_calls_a_batched_model():
    model = Tree()
    batched = bale.batch(model)
    torch._dynamo.reset()

    @torch.compile(backend="eager")
    def step(samples, scale):
        scaled = scale * 2
        outputs = batched(samples)
        return torch.stack(outputs).square().sum() * scaled

    samples, scale = trees(), torch.tensor(1.5)
    loss = step(samples, scale)
    wanted = torch.stack([model(s) for s in samples]).square().sum() * 3
    assert_all_close(loss, wanted)
    assert_all_close(gradients(model, loss), gradients(model, wanted))
    assert_all_close(step(samples[:2], scale), torch.stack([model(s) for s in samples[:2]]).square().sum() * 3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo asks for it
def test_torch_compile_of_a_module_that_holds_a_batched_model():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = bale.batch(Tree())
            self.head = nn.Linear(WIDTH, 2)

        def forward(self, samples):
            return self.head(torch.stack(self.encoder(samples)))

    torch._dynamo.reset()
    outer = Outer()
    compiled = torch.compile(outer, backend="eager")
    got, wanted = compiled(vectors(3)), outer.head(torch.stack([outer.encoder.inner(x) for x in vectors(3)]))
    assert_all_close(got, wanted)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo asks for it
def test_torch_compile_of_the_batched_model_itself():
    torch._dynamo.reset()
    batched = bale.batch(Tree())
    assert_all_close(torch.compile(batched, backend="eager")(trees()), [batched.inner(t) for t in trees()])


def test_distributed_data_parallel_on_two_processes(tmp_path):
    meeting = f"file://{tmp_path / 'meeting'}"
    paths = [str(HERE), str(Path(bale.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "two_processes.py"), str(rank), meeting],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        results = [process.communicate(timeout=90) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, results, strict=True):
        assert process.returncode == 0, err
        assert "equal" in out


class Trees(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, k):
        a, b, c = vectors(3, grad=False, seed=k)
        return [a, (b, c), ((a, b), c), (), (a, b, c)][k]


def test_data_loader_with_two_workers():
    model = Tree()
    batched, seen = bale.batch(model, check="always"), 0
    for samples in DataLoader(Trees(), batch_size=2, num_workers=2, collate_fn=list):
        assert_all_close(batched(samples), [model(s) for s in samples])
        seen += len(samples)
    assert seen == 5


class Encoded(Dataset):
    """Samples that a batched model makes inside a worker."""

    def __init__(self, batched):
        self.batched = batched

    def __len__(self):
        return 4

    def __getitem__(self, k):
        with torch.no_grad():
            return self.batched(vectors(2, grad=False, seed=k))


def test_a_batched_model_inside_the_workers_of_a_data_loader():
    model = Tree()
    batched = bale.batch(model)
    batched(trees())
    for k, (outputs,) in enumerate(DataLoader(Encoded(batched), batch_size=1, num_workers=2, collate_fn=list)):
        assert_all_close(outputs, [model(x).detach() for x in vectors(2, grad=False, seed=k)])


def test_vmap_and_grad_of_torch_func_around_a_batched_model_are_refused_or_right():
    """`torch.func.grad` hands over wrapped tensors; they must not come out wrong."""
    model = Tree()
    batched = bale.batch(model)
    x = torch.randn(WIDTH)
    wanted = torch.func.grad(lambda x: model(x).sum())(x)
    try:
        got = torch.func.grad(lambda x: batched([x])[0].sum())(x)
    except Exception as error:
        assert str(error)
    else:
        assert_all_close(got, wanted)
