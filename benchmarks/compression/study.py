"""What is one run? Train, compress, train again; write the packed file, read it back, and test that."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bale.codesign import chip_traffic, with_traffic
from bale.compress import (
    CommunicationAwareConfig,
    Config,
    Traffic,
    all_weights,
    bake_,
    column_bounds,
    communication_cost,
    load_packed_,
    save_packed,
)
from bale.data import Images
from bale.train import (
    ImageStep,
    Retraining,
    build_classifier,
    compress_and_train,
    image_accuracy,
    load_weights,
    save_weights,
    train_images,
)
from bale.train.tensor_bytes import short_digest
from benchmarks.compression.runs import NETWORKS, WIDER, Run
from benchmarks.race.machine import processor

CHIP = "small_tiles"  # whose traffic is counted: on larger tiles these networks have none to speak of
_SEED_OF_PARTS = 100  # beyond the seeds of dense networks, so that none sees its images in the same order again
Line = dict[str, Any]
OnStep = Callable[[str, ImageStep], None]


class Study:
    """Runs on some images, trained on a device; dense networks and checkpoints are kept in `folder`."""

    def __init__(self, train: Images, test: Images, folder: Path, on_step: OnStep, device: str = "cpu") -> None:
        self.train, self.test, self.folder, self.on_step = train, test, folder, on_step
        self.device = torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, run: Run) -> Line:
        """The line of a run; Ctrl-C leaves a checkpoint from which it goes on."""
        model, facts = self.dense(run)
        dense_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
        dense_bits = adc_bits(model)
        configs = with_traffic(run.configs, model, CHIP, self.train[:1].pixels())
        traffic = self.traffic(run, model)
        checkpoints = self.folder / run.folder
        begin = time.process_time()
        how = Retraining(run.amount.epochs, lr=run.amount.lr, seed=_SEED_OF_PARTS * (run.seed + 1))
        reported = self.train_again(run, configs, model.to(self.device), how, checkpoints)
        model.cpu()
        seconds = time.process_time() - begin
        accuracy = image_accuracy(model, self.test)
        packed = self.packed_bytes(run, model, accuracy)
        assert reported in (packed, None)
        shutil.rmtree(checkpoints, ignore_errors=True)
        line = {
            "model": run.model,
            "method": run.method,
            "setting": run.setting,
            "configs": run.meaning,
            "seed": run.seed,
            "dense_accuracy": facts["accuracy"],
            "accuracy": accuracy,
            "dense_bytes": dense_bytes,
            "packed_bytes": packed,
            "adc_bits": adc_bits(model),
            "dense_adc_bits": dense_bits,
            "communication": None if traffic is None else communication_left(traffic, model),
            "train_s": round(seconds, 1),
            "dense_train_s": facts["train_s"],
            **run.amount.fields(),
            "threads": torch.get_num_threads(),
            "processor": processor(),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "torch": torch.__version__,
        }
        self.packed(run).with_suffix(".json").write_text(json.dumps(line))
        return line

    def network(self, run: Run) -> tuple[nn.Module, Line]:
        """The compressed network of a run, done now or before in this folder, with plain layers; and its line."""
        told = self.packed(run).with_suffix(".json")
        line = json.loads(told.read_text()) if told.exists() else self.run(run)
        model = self.build(run)
        load_packed_(model, self.packed(run))
        return model.eval(), line

    def packed(self, run: Run) -> Path:
        """Where the packed file of a run is kept, beside its line."""
        return self.folder / f"{run.folder}.bale"

    def train_again(
        self, run: Run, configs: Sequence[Config], model: nn.Module, how: Retraining, checkpoints: Path
    ) -> int | None:
        """Compress the model, train it, and return the bytes that its report tells; or, as a control, only train it."""
        tell = lambda step: self.on_step(run.setting, step)  # noqa: E731
        if configs:
            report = compress_and_train(model, self.train, configs, how, on_step=tell, save=checkpoints)
            return report.packed_bytes
        train_images(
            model,
            self.train,
            epochs=how.epochs,
            batch_size=how.batch_size,
            lr=how.lr,
            seed=how.seed,
            on_step=tell,
            save=checkpoints,
            facts={"model before, SHA-256": short_digest(model.state_dict())},
        )
        return None

    def dense(self, run: Run) -> tuple[nn.Module, Line]:
        """The network before compression, trained now or by an earlier run."""
        model = self.build(run)
        name = f"dense-{run.model}-{run.seed}-{run.amount.dense_epochs}x{run.amount.images}"
        weights, facts = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        if facts.exists():
            load_weights(model, weights)
            return model, json.loads(facts.read_text())
        begin = time.process_time()
        train_images(
            model.to(self.device),
            self.train,
            epochs=run.amount.dense_epochs,
            lr=run.amount.lr,
            seed=run.seed,
            on_step=lambda step: self.on_step("dense", step),
            save=self.folder / name,
        )
        model.cpu()
        told = {"accuracy": image_accuracy(model, self.test), "train_s": round(time.process_time() - begin, 1)}
        save_weights(model, weights)
        facts.write_text(json.dumps(told))
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return model, told

    def traffic(self, run: Run, model: nn.Module) -> Traffic | None:
        """That of the dense network, where a method is to lower it."""
        asked = any(isinstance(config, CommunicationAwareConfig) for config in run.configs)
        return chip_traffic(model, CHIP, self.train[:1].pixels()) if asked else None

    def build(self, run: Run) -> nn.Module:
        spec, width = (NETWORKS | WIDER)[run.model]
        return build_classifier(spec, self.train, width=width, seed=run.seed)

    def packed_bytes(self, run: Run, model: nn.Module, accuracy: float) -> int:
        """Write the packed file, and see whether what comes back is the same network."""
        path = self.packed(run)
        size = save_packed(model, path, *run.configs)
        assert size == path.stat().st_size
        again = self.build(run)
        load_packed_(again, path)
        baked = bake_(model).state_dict()
        assert all(torch.equal(tensor, baked[key]) for key, tensor in again.state_dict().items())
        assert abs(image_accuracy(again, self.test) - accuracy) <= 2 / len(self.test)  # by another order of sums
        return size


def communication_left(traffic: Traffic, model: nn.Module) -> float:
    """The cost C of what a network sends by the weights that it has, beside that of all its connections."""
    with torch.no_grad():
        weights = {name: weight for name, weight in all_weights(model).items() if name in traffic.weights}
    every = {name: torch.ones_like(weight) for name, weight in weights.items()}
    return communication_cost(traffic, weights) / communication_cost(traffic, every)


def adc_bits(model: nn.Module) -> int:
    """Of the converters that lose nothing of a network's products, a priori: 128 rows, 2-bit cells, 1-bit DAC."""
    with torch.no_grad():
        matrices = [weight.flatten(1) for weight in all_weights(model).values()]
        bounds = [column_bounds(matrix, rows=128, weight_bits=8, cell_bits=2, dac_bits=1) for matrix in matrices]
    return max(bound.a_priori_bits for bound in bounds)
