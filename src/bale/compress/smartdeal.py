"""SmartDeal / SmartExchange: weights as sparse powers of two times small bases, which are cheap to rebuild.

SmartExchange (Zhao et al., ISCA 2020) and SmartDeal (Chen et al., 2021). Published: W ~= Ce B with sparse Ce of powers
of two, and what it saves. Read in the authors' code: shapes, the algorithm that is `choice="nearest"` here, re-training
by projection, bucket switching. Second-hand notes on the papers: channels by batch norms' scales, sizes in bits. Our
inference: bounded exponents, shared pieces, `choice="rate-distortion"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from bale.compress.code import Code, UnsuitableError
from bale.compress.config import WeightConfig
from bale.compress.decompose import Split, nearest, rate_distortion
from bale.compress.layout import Dense, Pieces
from bale.compress.norms import output_scales
from bale.compress.packing import pack_code
from bale.compress.powers import PowerOfTwoQuantizer
from bale.compress.weights import Weight

if TYPE_CHECKING:
    from bale.compress.compressor import Compressor

_WIDEST = 32  # S, up to which sums of rebuilt weights are exact in float32
# Of the powers of two that a type holds; float32's also for float64, since powers and bases are made in float32.
_EXPONENTS = {torch.float16: (-24, 15)}
_WIDE_EXPONENTS = (-126, 127)


@dataclass(frozen=True)
class SmartDealConfig(WeightConfig):
    """Store weights as Ce B: Ce sparse, its non-zeros +-2^p of 3 or 4 bits; B small, square, 8 bits; one B a piece.

    All layers' weights, also convolutions in groups, LSTM, GRU and their cells, as `Pieces` says. It goes before no
    other method and after none but structured pruning. In a packed file there are bitmaps of what is not 0, rows first
    where that pays, the codes and the bases.

    rate         of "rate-distortion": what a stored bit may cost, in units of mean squared weights (`relative_to`); the
                 field that a target chooses
    bits         of a coefficient, 3 or 4: its sign, and one of 4 or 8 consecutive exponents, the same set for a weight
    choice       "rate-distortion", ours: each entry is the power, or 0, that costs least in squared error and bits.
                 "nearest", as read in the authors' code: the nearest power, and 0 below `threshold`
    threshold    of "nearest": of a coefficient, in units of the root mean squared weight (`relative_to`); the authors'
                 are 1e-3 and, in training, 4e-3, "absolute"
    vectors      of "nearest": rows whose norm is below this share of sqrt(S) rms are 0 (vector sparsity). With "rate-
                 distortion" rows become 0 by what they cost
    relative_to  what `rate`, `threshold` and `vectors` are in units of: the weights of the whole "network", or of each
                 "layer"; "absolute": 1. A layer of which nothing would stay is measured by itself
    rows         of a piece, at most; 192 is the authors'
    channels     the share of its outputs that a layer keeps, rounded up: those with the largest |scales| of the batch
                 norm after it (second-hand notes). The filters of others are 0. A layer without one keeps all
    trained      what moves in further training: "all", coefficients that are not 0 and bases; "basis", to adapt to
                 other data; "none"
    training     "straight-through": compress at once, then train. "projection", read in the authors' code: plain steps,
                 and after each epoch every weight is made to be its Ce B (`Projection`). "buckets", to train from
                 scratch: coefficients double or halve where enough large updates ask for it (`Buckets`). Both act for
                 a part of a training, and weights are then trained further straight through

    The report says of each weight the share of rows that are 0, of coefficients that are not, and bits a weight.
    """

    rate: float = 0.03
    bits: int = 3
    choice: Literal["rate-distortion", "nearest"] = "rate-distortion"
    threshold: float = 0.5
    vectors: float = 0.0
    relative_to: Literal["network", "layer", "absolute"] = "network"
    rows: int = 192
    channels: float = 1.0
    trained: Literal["all", "basis", "none"] = "all"
    training: Literal["straight-through", "projection", "buckets"] = "straight-through"
    method: ClassVar[str] = "smartdeal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.bits in (3, 4), "bits", f"must be 3 or 4, got {self.bits}")
        for field in ("rate", "threshold", "vectors"):
            number = getattr(self, field)
            self.check(0 <= number < float("inf"), field, f"must be at least 0 and finite, got {number}")
        self.check(1 <= self.rows <= 1 << 20, "rows", f"must be from 1 to 1,048,576, got {self.rows}")
        self.check(0 < self.channels <= 1, "channels", f"must be above 0 and at most 1, got {self.channels}")
        self.check(
            self.training != "buckets" or self.trained == "all",
            "trained",
            f'must be "all" where training is "buckets", which moves coefficients; got {self.trained!r}',
        )

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        rates = (0.0, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0)
        return tuple(cls(rate) for rate in rates)

    @property
    def acts_in_training(self) -> bool:
        return self.training != "straight-through"

    def compressor(self, steps: int | None = None, epochs: int | None = None) -> Compressor:
        """What `training` says; where steps and epochs are known, a projection after each epoch, and a bar for them."""
        # They compress by configs such as this one.
        from bale.compress.buckets import Buckets, bar_for
        from bale.compress.projection import Projection

        if self.training == "buckets":
            return Buckets(self, bar=bar_for(steps)) if steps else Buckets(self)
        if self.training == "projection":
            return Projection(self, every=max(1, steps // epochs)) if steps and epochs else Projection(self)
        return super().compressor(steps, epochs)

    def encode(self, weight: Weight) -> None:
        self.encoder([weight])(weight)

    def encoder(self, weights: Sequence[Weight]) -> Callable[[Weight], None]:
        return self._encoder(weights, {})

    def encoder_of(self, model: nn.Module, weights: Sequence[Weight]) -> Callable[[Weight], None]:
        return self._encoder(weights, output_scales(model) if self.channels < 1 else {})

    def facts(self, code: Code) -> dict[str, float]:
        layout = code.layout
        if not isinstance(layout, Pieces):
            return {}
        rows = layout.by_output(code.numbers().detach()).flatten(0, 1) != 0
        return {
            "zero_rows": round(1 - float(rows.any(1).double().mean()), 4),
            "density": round(float(rows.double().mean()), 4),
            "bits_a_weight": round(8 * len(pack_code(code)[1]) / prod(layout.weight_shape), 3),
        }

    def _encoder(self, weights: Sequence[Weight], scales: Mapping[str, Tensor]) -> Callable[[Weight], None]:
        new = [weight.code.values.detach().double() for weight in weights if not weight.code.changed]
        many = sum(values.numel() for values in new)
        whole = sum(float(values.square().sum()) for values in new) / max(1, many)

        def encode(weight: Weight) -> None:
            _check_suitable(weight.code)
            values = _without(weight.code.values.detach(), scales.get(weight.key), self.channels)
            own = float(values.double().square().mean())
            unit = {"network": whole, "layer": own, "absolute": 1.0}[self.relative_to]
            layout = Pieces(weight.shape.weight, self.rows)
            if layout.size > _WIDEST:
                raise UnsuitableError(f"has a kernel of width {layout.size}; bases of up to {_WIDEST} are exact")
            pieces = layout.project(values)
            split = self._split(pieces, unit)
            if not bool(split.coefficients.any()) and own > 0:
                split = self._split(pieces, own)
            self._store(weight.code, layout, split)

        return encode

    def _split(self, pieces: Tensor, unit: float) -> Split:
        """`unit`: of squared weights."""
        if self.choice == "rate-distortion":
            return rate_distortion(pieces, self.bits, self.rate * unit)
        thin = self.vectors * (pieces.shape[-1] * unit) ** 0.5
        return nearest(pieces, self.bits, self.threshold * unit**0.5, thin)

    def _store(self, code: Code, layout: Pieces, split: Split) -> None:
        lowest, highest = split.highest - 2 ** (self.bits - 1) + 1, split.highest
        least, most = _EXPONENTS.get(code.values.dtype, _WIDE_EXPONENTS)
        if not least <= lowest < highest <= most:
            half = code.values.dtype == torch.float16
            kind, hint = ("float16", "model.float()") if half else ("float32", "scale its weights")
            raise UnsuitableError(f"needs powers 2^{lowest} to 2^{highest}, which {kind} does not hold; {hint}")
        quantizer = PowerOfTwoQuantizer(split.highest, self.bits)
        code.decompose(layout, split.coefficients, split.basis, quantizer)
        assert code.basis is not None
        if self.trained != "all":
            code.values.requires_grad_(False)
        if self.trained == "none":
            code.basis.requires_grad_(False)


def _check_suitable(code: Code) -> None:
    """Raise UnsuitableError for what is no plain weight."""
    code.check_not_decomposed()
    if not isinstance(code.layout, Dense):
        raise UnsuitableError("is block-circulant; smartdeal is for weights that are stored as they are")
    if code.changed:
        raise UnsuitableError("is pruned or quantised already; smartdeal does both by itself")


def _without(weight: Tensor, scales: Tensor | None, keep: float) -> Tensor:
    """The weight, and 0 for outputs whose norm has the smallest scales; of equal ones the first stays."""
    if scales is None:
        return weight
    most = ceil(round(keep * len(scales), 9))
    kept = torch.zeros(len(scales), dtype=torch.bool)
    kept[torch.sort(scales, descending=True, stable=True).indices[:most]] = True
    return torch.where(kept.to(weight.device).view(-1, *[1] * (weight.dim() - 1)), weight, 0.0)
