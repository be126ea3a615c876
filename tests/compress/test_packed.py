"""Do packed files hold the baked model bit for bit, in as many bytes as is said, and is a damaged one refused?"""

from copy import deepcopy
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.compress.made import CASES, MODELS, STACKS, convolutional
from torch import Tensor, nn

from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    Config,
    MagnitudeConfig,
    StructuredConfig,
    UniformQuantConfig,
    bake_,
    compress_,
    load_packed_,
    pack,
    read_packed,
    save_packed,
    unpack,
)
from bale.compress.bits import pack_bits, packed_size, unpack_bits
from bale.compress.layers import KINDS
from bale.compress.layout import Pieces
from bale.compress.packing import pack_code
from bale.compress.weights import coded_weights
from bale.errors import CompressionError


def everywhere(module: nn.Module, name: str) -> bool:
    return isinstance(module, KINDS)


def compressed(model: nn.Module, *configs: Config) -> nn.Module:
    for config in configs:
        compress_(model, config, None if config.method == "structured" else everywhere)
    return model


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """As after some steps of training, long ones: numbers change their signs, scales too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter += 0.5 * noise * parameter.abs().mean()
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer += 0.1
            elif buffer.dtype == torch.int64:
                buffer += 7
    return model


def assert_same_state(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert list(got) == list(want)
    for key, tensor in want.items():
        assert got[key].dtype == tensor.dtype and got[key].shape == tensor.shape, key
        assert torch.equal(got[key], tensor), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("model,stack", CASES)
def test_what_comes_back_is_the_baked_state(model, stack, dtype) -> None:
    torch.manual_seed(0)
    net = shaken(compressed(MODELS[model][0]().to(dtype), *STACKS[stack]))
    configs = STACKS[stack]
    packed = unpack(pack(net, configs, {"note": ["a", 1]}))
    assert packed.configs == tuple(config.to_dict() for config in configs) and packed.facts == {"note": ["a", 1]}
    assert_same_state(dict(packed.state), bake_(net).state_dict())


@given(
    st.integers(2, 16),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(0, 1 << 20),
)
def test_numbers_of_any_bits(bits, dtype, outputs, inputs, seed) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape) < 0.2] = 0
        layer.weight[0] *= 100
    compress_(layer, ADCAwareConfig(nonzeros=2, rows=4, weight_bits=bits))
    shaken(layer.to(dtype), seed)
    assert_same_state(dict(unpack(pack(layer)).state), bake_(layer).state_dict())


@given(st.integers(1, 16), st.integers(0, 60), st.integers(0, 1 << 20))
def test_bits_come_back(bits, count, seed) -> None:
    numbers = np.random.default_rng(seed).integers(0, 2**bits, count)
    packed = pack_bits(numbers, bits)
    assert len(packed) == packed_size(bits, count) == ceil(bits * count / 8)
    assert unpack_bits(packed, bits, count).tolist() == numbers.tolist()
    written = "".join(f"{number:0{bits}b}" for number in numbers).ljust(8 * len(packed), "0")
    assert "".join(f"{byte:08b}" for byte in packed) == written


@pytest.mark.parametrize("model,stack", CASES)
def test_sizes_are_as_said(model, stack) -> None:
    torch.manual_seed(0)
    for weight in coded_weights(compressed(MODELS[model][0](), *STACKS[stack])):
        code = weight.code
        size, numbers = 0, code.numbers().detach()
        many = numbers.numel()
        if code.mask is not None:
            size += ceil(many / 8)
            many = int(numbers.count_nonzero())
        if code.basis is not None:
            assert isinstance(code.layout, Pieces)
            rows = code.layout.by_output(numbers).flatten(0, 1)
            kept, stored = int(rows.any(1).sum()), rows.numel()
            bitmaps = min(ceil(stored / 8), ceil(len(rows) / 8) + ceil(kept * code.layout.size / 8))
            size = bitmaps + code.basis.numel() + len(code.basis) + ceil(code.bits * many / 8)
        elif code.quantizer is None:
            size += 4 * many
        else:
            size += 4 * code.quantizer.step().numel() + ceil(code.bits * many / 8)
        assert len(pack_code(code)[1]) == size


def test_a_model_that_is_not_compressed_is_packed_as_it_is() -> None:
    net = convolutional()
    assert_same_state(dict(unpack(pack(net)).state), net.state_dict())


def test_the_reports_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    net = convolutional()
    report = compress_(net, MagnitudeConfig(0.2))
    size = save_packed(net, tmp_path / "net.bale", *report.configs)
    assert size == report.packed_bytes == (tmp_path / "net.bale").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["net.bale"]


class Odd(nn.Module):
    """Weights that are used twice, and state of many types."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.out = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7)
        self.out.weight = self.embed.weight
        self.again = self.hidden
        self.middle = nn.Linear(6, 6)
        for kind in (torch.bool, torch.int8, torch.complex64, torch.float16):
            self.register_buffer(str(kind).removeprefix("torch."), torch.tensor([[1, 0, 1]]).to(kind))
        self.register_buffer("nothing", torch.empty(0, 3))
        self.register_buffer("count", torch.tensor(5))
        self.register_buffer("every_other", torch.arange(8.0)[::2])


def test_shared_weights_are_stored_once_and_any_type_comes_back() -> None:
    torch.manual_seed(0)
    net = Odd()
    compress_(net, UniformQuantConfig(4))
    content = pack(net)
    assert_same_state(dict(unpack(content).state), bake_(deepcopy(net)).state_dict())
    net.out.weight = nn.Parameter(net.out.weight.detach().clone())
    assert len(pack(net)) >= len(content) + 4 * 42 - 20


def test_state_that_is_no_tensor_is_refused() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> str:
            return "mine"

    with pytest.raises(CompressionError, match=r"_extra_state: is a str; a packed file holds tensors only"):
        pack(Extra(2, 2))


# Damaged and other files.


def test_a_file_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    compress_(net, UniformQuantConfig(2))
    path = tmp_path / "net.bale"
    save_packed(net, path, UniformQuantConfig(2))
    content = path.read_bytes()
    fresh = nn.Linear(3, 2)
    before = {key: tensor.clone() for key, tensor in fresh.state_dict().items()}
    for place in range(len(content)):
        for flip in (1, 0x80, 0xFF):
            path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            with pytest.raises(CompressionError, match=r"net\.bale: is (damaged|no packed model|of format)"):
                load_packed_(fresh, path)
    for end in range(len(content)):
        with pytest.raises(CompressionError, match=r"^mine: is "):
            unpack(content[:end], "mine")
    with pytest.raises(CompressionError, match=r"^mine: is damaged"):
        unpack(content + b"\0", "mine")
    assert_same_state(fresh.state_dict(), before)


@pytest.mark.parametrize("content", [b"", b"BALE", b"\x89PNG\r\n", b"BALE\x01" + bytes(12), b"BALE\x02" + bytes(40)])
def test_another_file_is_refused(content, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CompressionError, match=r"other: is (damaged|no packed model|of format)"):
        read_packed(tmp_path / "other")


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"none\.bale: cannot be read: No such file"):
        read_packed(tmp_path / "none.bale")
    with pytest.raises(CompressionError, match=r"net\.bale: cannot be written: No such file"):
        save_packed(nn.Linear(2, 2), tmp_path / "none" / "net.bale")


# Into models.


@pytest.mark.parametrize("model,stack", CASES)
def test_it_loads_into_a_fresh_model(model, stack, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, inputs = MODELS[model]
    net = shaken(compressed(make(), *STACKS[stack])).eval()
    save_packed(net, tmp_path / "net.bale", *STACKS[stack])
    fresh, x = make().eval(), inputs()
    packed = load_packed_(fresh, tmp_path / "net.bale")
    assert [config["method"] for config in packed.configs] == [config.method for config in STACKS[stack]]
    assert torch.equal(fresh(x), bake_(net)(x))


@pytest.mark.parametrize(
    "other",
    [
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
        lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2)),
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)),
        lambda: nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2)),
        lambda: nn.Sequential(nn.Conv1d(6, 5, 1), nn.ReLU(), nn.Conv1d(5, 2, 1)),
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Identity(), nn.ReLU(), nn.Linear(5, 2)),
    ],
)
def test_another_architecture_is_refused_and_stays_as_it_was(other, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    compress_(net, UniformQuantConfig(4))
    save_packed(net, tmp_path / "net.bale")
    model = other()
    parameters = list(model.parameters())
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CompressionError, match=r"net\.bale: is of another model"):
        load_packed_(model, tmp_path / "net.bale")
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert_same_state(model.state_dict(), before)


def test_a_structured_model_loads_into_one_of_full_width(tmp_path: Path) -> None:
    net = compressed(convolutional(), StructuredConfig(0.5), MagnitudeConfig(0.5)).eval()
    save_packed(net, tmp_path / "net.bale")
    fresh = convolutional().eval()
    load_packed_(fresh, tmp_path / "net.bale")
    x = torch.randn(3, 2, 4, 4)
    assert fresh[0].out_channels == 4 and torch.equal(fresh(x), bake_(net)(x))


def test_a_compressed_model_is_not_loaded_into(tmp_path: Path) -> None:
    net = compressed(convolutional(), BlockCirculantConfig(2))
    save_packed(net, tmp_path / "net.bale")
    with pytest.raises(CompressionError, match=r"net\.bale: goes into a plain model; bale\.bake_ this one"):
        load_packed_(net, tmp_path / "net.bale")
