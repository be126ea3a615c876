"""Who reads a layer's outputs? What must shrink with them, so that a layer can lose some, by torch.fx.

For filter pruning (Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3):
without a layer's output its row, the batch norm's channel after it and the next layers' columns go too.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx, nn
from torch.nn import functional

from bale.compress.layers import Compressed
from bale.errors import BaleError

# How outputs lie in a tensor: a convolution's [n, outputs, ...], the same with all but n flattened into
# [n, outputs * positions], or a Linear's [..., outputs].
Layout = Literal["maps", "flat", "features"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

# Each number of what these return is made from one number that they read.
_ELEMENTWISE_MODULES = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Threshold, nn.Dropout, nn.AlphaDropout,
)  # fmt: skip
_ELEMENTWISE_FUNCTIONS = frozenset({
    functional.relu, functional.relu_, functional.relu6, functional.leaky_relu, functional.elu, functional.selu,
    functional.celu, functional.gelu, functional.silu, functional.mish, functional.sigmoid, functional.logsigmoid,
    functional.tanh, functional.tanhshrink, functional.hardtanh, functional.hardsigmoid, functional.hardswish,
    functional.hardshrink, functional.softplus, functional.softshrink, functional.softsign,
    functional.dropout, functional.alpha_dropout, torch.relu, torch.tanh, torch.sigmoid, torch.clamp, torch.abs,
    torch.neg, torch.exp, torch.square, torch.add, torch.sub, torch.mul, torch.div, operator.add, operator.sub,
    operator.mul, operator.truediv, operator.neg, operator.pow,
})  # fmt: skip
_ELEMENTWISE_METHODS = frozenset(
    "relu relu_ tanh tanh_ sigmoid sigmoid_ clamp clamp_ clamp_min clamp_max abs neg exp square contiguous clone "
    "float double add add_ sub sub_ mul mul_ div div_".split()
)

# Each map of what these return is made from one map that they read; by the axes of a map.
_MAPWISE_MODULES: dict[type[nn.Module], int] = {
    nn.MaxPool1d: 1, nn.AvgPool1d: 1, nn.LPPool1d: 1, nn.AdaptiveAvgPool1d: 1, nn.AdaptiveMaxPool1d: 1, nn.Dropout1d: 1,
    nn.MaxPool2d: 2, nn.AvgPool2d: 2, nn.LPPool2d: 2, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveMaxPool2d: 2, nn.Dropout2d: 2,
}  # fmt: skip
_MAPWISE_FUNCTIONS = {
    functional.max_pool1d: 1, functional.avg_pool1d: 1, functional.lp_pool1d: 1, functional.adaptive_avg_pool1d: 1,
    functional.adaptive_max_pool1d: 1, functional.dropout1d: 1, torch.max_pool1d: 1, torch.adaptive_avg_pool1d: 1,
    functional.max_pool2d: 2, functional.avg_pool2d: 2, functional.lp_pool2d: 2, functional.adaptive_avg_pool2d: 2,
    functional.adaptive_max_pool2d: 2, functional.dropout2d: 2, torch.max_pool2d: 2,
}  # fmt: skip

_TWO_OPERANDS = {
    "add": "added to",
    "mul": "multiplied by",
    "cat": "concatenated with",
    "stack": "stacked with",
}


@dataclass(frozen=True)
class Consumer:
    """A layer that reads outputs: each of them is `positions` consecutive columns of its weight."""

    name: str
    positions: int = 1


@dataclass(frozen=True)
class Group:
    """What shrinks when `producer` loses outputs.

    `followers` keep channels apart and lose the same ones: batch norms and depthwise convolutions. `consumers` lose
    inputs. All are names of modules, those first that are fewer calls away.
    """

    producer: str
    followers: tuple[str, ...]
    consumers: tuple[Consumer, ...]


@dataclass(frozen=True)
class Structure:
    """The layers of a network that can lose outputs, by name, and why its other layers cannot."""

    groups: dict[str, Group]
    unprunable: dict[str, str]


class _Unprunable(Exception):
    """A layer's outputs cannot be removed; the message is the reason, without the layer's name."""


def find_groups(model: nn.Module) -> Structure:
    """Find what reads the outputs of each Linear, Conv1d and Conv2d of `model`. No input is run.

    Between a layer and its consumers there may be batch norms, depthwise convolutions, elementwise operations, pools of
    a convolution's maps, and one flatten of all but the first axis. All else, such as an addition, a softmax or the
    network's results, makes a layer unprunable. Models read batches: a convolution's outputs are taken to be
    [n, channels, ...], and those of a Linear before a batch norm [n, features]. `model` is looked at in the mode, train
    or eval, that it is in; what hooks of layers do is not seen.

    Raises `BaleError` where torch.fx cannot trace `model`, with what it said.
    """
    network = _Network(model)
    groups: dict[str, Group] = {}
    unprunable: dict[str, str] = {}
    for name, module in network.modules.items():
        if isinstance(module, _LAYERS):
            problem = network.problem(name)
            if problem is not None:
                unprunable[name] = problem
                continue
            try:
                groups[name] = _Walk(network, name, module).group()
            except _Unprunable as reason:
                unprunable[name] = str(reason)
    return Structure(groups, unprunable)


class _Network:
    """A traced model: its modules by name, its graph, and how often modules and parameters are used."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        nodes = list(traced(model).nodes)
        self.calls: dict[str, list[fx.Node]] = {}
        for node in nodes:
            if node.op == "call_module":
                self.calls.setdefault(str(node.target), []).append(node)
        self.read_tensors = {str(node.target) for node in nodes if node.op == "get_attr"}
        self.owners = Counter(
            id(parameter)
            for module in self.modules.values()
            for parameter in module._parameters.values()
            if parameter is not None
        )

    def problem(self, name: str) -> str | None:
        """Why a layer or batch norm cannot change its size, whatever is around it; None where it can."""
        module = self.modules[name]
        plain = next(kind for kind in _LAYERS + _NORMS if isinstance(module, kind))
        calls = len(self.calls.get(name, ()))
        if not name:
            return "is the whole network: its outputs are the results"
        if type(module) is not plain:
            return f"is a {type(module).__name__}, not a plain {plain.__name__}"
        if "forward" in vars(module):
            return "has a forward of its own"
        if set(module._parameters) != {"weight", "bias"}:
            return "has a weight that is computed from other parameters, as by weight_norm or torch.nn.utils.prune"
        if any(self.owners[id(parameter)] > 1 for parameter in module.parameters()):
            return "shares its parameters with another module"
        if any(f"{name}.{part}" in self.read_tensors for part in (*module._parameters, *module._buffers)):
            return "has parameters that a forward reads by itself, not by calling the module"
        if calls == 0:
            return "is not called as a module by the network's forward"
        if calls > 1:
            return "is called twice" if calls == 2 else f"is called {calls} times"
        return None


def traced(model: nn.Module) -> fx.Graph:
    """What a forward calls; raises `BaleError` where torch.fx cannot trace it."""
    before = set(vars(model))
    try:
        return _Tracer().trace(model)
    except Exception as error:  # whatever a forward may raise when it is given proxies
        raise BaleError(
            f"{type(model).__name__}: torch.fx cannot trace it: {type(error).__name__}: {error}; structured pruning "
            "needs a network that torch.fx can trace, whose forward does not branch on what it is given"
        ) from error
    finally:
        # The tracer leaves the tensors that a forward makes as attributes of the model.
        for name in set(vars(model)) - before:
            delattr(model, name)


class _Tracer(fx.Tracer):
    """Records a compressed layer as one call, as torch does with its own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Compressed) or super().is_leaf_module(m, module_qualified_name)


class _Walk:
    """From a layer's call to all that read its outputs."""

    def __init__(self, network: _Network, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
        self.network, self.name = network, name
        self.outputs = module.weight.shape[0]
        self.axes = module.weight.dim() - 2  # of a map
        self.followers: list[str] = []
        self.consumers: list[Consumer] = []

    def group(self) -> Group:
        """All readers; raises `_Unprunable` at the first that cannot shrink."""
        module = self.network.modules[self.name]
        if not isinstance(module, nn.Linear) and module.groups != 1:
            raise _Unprunable(f"is a convolution of {module.groups} groups: it shrinks only with the layer before it")
        start: Layout = "maps" if self.axes else "features"
        values: list[tuple[fx.Node, Layout]] = [(self.network.calls[self.name][0], start)]
        for value, layout in values:  # grows on the way
            for node in value.users:
                after = self._read(node, value, layout)
                if after is not None:
                    values.append((node, after))
        if not self.consumers:
            raise _Unprunable("its outputs are read by no layer")
        return Group(self.name, tuple(self.followers), tuple(self.consumers))

    def _read(self, node: fx.Node, value: fx.Node, layout: Layout) -> Layout | None:
        """Note what `node` does with `value`; return how the outputs lie in its result, None where they end there."""
        if node.op == "output":
            raise _Unprunable("its outputs are the network's results")
        if _reads_a_property(node, layout, self.axes):
            return None
        if self._is_flat_view(node, value):
            return "flat" if layout == "maps" else layout
        if node.all_input_nodes != [value]:
            raise _Unprunable(_two_operands(node, value))
        if node.op == "call_module":
            return self._module(str(node.target), layout)
        return self._function(node, layout)

    def _module(self, name: str, layout: Layout) -> Layout | None:
        module = self.network.modules[name]
        if isinstance(module, _LAYERS + _NORMS):
            problem = self.network.problem(name)
            if problem is not None:
                raise _Unprunable(f"its outputs are read by {name}, which {problem}")
        if isinstance(module, nn.Linear):
            return self._linear(name, module, layout)
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return self._convolution(name, module, layout)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and self._fits(module.num_features, layout):
            self.followers.append(name)
            return layout
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            return "flat" if layout == "maps" else layout
        kind = type(module)
        mapwise = layout == "maps" and _MAPWISE_MODULES.get(kind) == self.axes
        if mapwise or kind in _ELEMENTWISE_MODULES or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
            return layout
        raise _Unprunable(_mixing(f"{name} ({kind.__name__})"))

    def _linear(self, name: str, module: nn.Linear, layout: Layout) -> None:
        if layout == "maps":
            raise _Unprunable(f"its outputs are read by {name} along another axis, without a flatten between them")
        if not self._fits(module.in_features, layout):
            raise _Unprunable(
                f"its outputs are read by {name} as {module.in_features} inputs, which is not their number"
            )
        self.consumers.append(Consumer(name, module.in_features // self.outputs))

    def _convolution(self, name: str, module: nn.Conv1d | nn.Conv2d, layout: Layout) -> Layout | None:
        if layout != "maps" or len(module.kernel_size) != self.axes or module.in_channels != self.outputs:
            raise _Unprunable(f"its outputs are read by {name} along another axis")
        if module.groups == 1:
            self.consumers.append(Consumer(name))
            return None
        if module.groups == module.in_channels == module.out_channels:
            self.followers.append(name)
            return layout
        raise _Unprunable(f"its outputs are read by {name}, a convolution of {module.groups} groups, not one a channel")

    def _fits(self, inputs: int, layout: Layout) -> bool:
        """Whether a module of so many inputs can be reading the outputs: a flattened one several positions of each."""
        return inputs % self.outputs == 0 if layout == "flat" else inputs == self.outputs

    def _function(self, node: fx.Node, layout: Layout) -> Layout:
        if _is_elementwise(node):
            return layout
        if layout == "maps" and _axes_pooled(node) == self.axes:
            return layout
        if _is_flatten(node):
            return "flat" if layout == "maps" else layout
        if layout == "maps" and _is_mean_of_maps(node, self.axes):
            return "maps" if node.kwargs.get("keepdim") else "flat"
        if _is_shape(node) or node.target == "size":
            raise _Unprunable(f"the number of its outputs is read by the forward{_place(node)}")
        if node.target is operator.getitem:
            raise _Unprunable(f"its outputs are indexed{_place(node)}")
        if node.target in ("view", "reshape", torch.reshape):
            raise _Unprunable(f"its outputs are reshaped to a size that is fixed{_place(node)}")
        raise _Unprunable(_mixing(_label(node)))

    def _is_flat_view(self, node: fx.Node, value: fx.Node) -> bool:
        """`value.view(n, -1)` or the like, with n read from a tensor whose samples are those of `value`."""
        method = node.op == "call_method" and node.target in ("view", "reshape")
        if not (method or node.target is torch.reshape) or node.args[0] is not value or node.kwargs:
            return False
        sizes = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
            sizes = tuple(sizes[0])
        if len(sizes) != 2 or sizes[1] != -1 or not isinstance(sizes[0], fx.Node):
            return False
        origin = _first_size_of(sizes[0])
        return origin is not None and self._same_samples(value, origin)

    def _same_samples(self, value: fx.Node, origin: fx.Node) -> bool:
        """Whether `value` is made from `origin` sample by sample, by operations that are known to."""
        while value is not origin:
            known = _is_elementwise(value) or _axes_pooled(value) is not None
            if value.op == "call_module":
                kind = type(self.network.modules[str(value.target)])
                known = kind in (*_LAYERS, *_NORMS, *_ELEMENTWISE_MODULES, *_MAPWISE_MODULES)
            if not known or len(value.all_input_nodes) != 1:
                return False
            (value,) = value.all_input_nodes
        return True


def _is_elementwise(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _ELEMENTWISE_METHODS
    return node.op == "call_function" and node.target in _ELEMENTWISE_FUNCTIONS


def _axes_pooled(node: fx.Node) -> int | None:
    functions = (axes for function, axes in _MAPWISE_FUNCTIONS.items() if function is node.target)
    return next(functions, None)


def _is_flatten(node: fx.Node) -> bool:
    if node.target not in ("flatten", torch.flatten):
        return False
    given = {**dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)), **node.kwargs}
    return (given.get("start_dim", 0), given.get("end_dim", -1)) == (1, -1)


def _is_mean_of_maps(node: fx.Node, axes: int) -> bool:
    """A mean over all axes of a map, `x.mean((2, 3))`, which is a pool too."""
    if node.target not in ("mean", torch.mean) or not set(node.kwargs) <= {"dim", "keepdim"} or len(node.args) > 2:
        return False
    given = node.args[1] if len(node.args) == 2 else node.kwargs.get("dim")
    dims = given if isinstance(given, tuple | list) else (given,)
    # From the last axis or the first: -1 of a batch of maps with two axes is 3.
    return {dim % (2 + axes) for dim in dims if isinstance(dim, int)} == set(range(2, 2 + axes))


def _reads_a_property(node: fx.Node, layout: Layout, axes: int) -> bool:
    """Whether `node` reads of its tensor only what does not tell how many outputs there are."""
    allowed = {0, *range(2, 2 + axes), *range(-axes, 0)} if layout == "maps" else {0}
    if node.op == "call_method" and node.target == "size" and len(node.args) == 2:
        return node.args[1] in allowed
    if node.op == "call_function" and node.target is getattr and node.args[1] in ("device", "dtype"):
        return True
    return _is_shape(node) and all(
        user.target is operator.getitem and user.args[0] is node and user.args[1] in allowed for user in node.users
    )


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target == "size" and len(node.args) == 1 and not node.kwargs
    return node.target is getattr and node.args[1] == "shape"


def _first_size_of(node: fx.Node) -> fx.Node | None:
    """The tensor whose first axis' size `node` is; None where it is something else."""
    source = node.args[0] if node.args else None
    if node.op == "call_method" and node.target == "size" and node.args[1:] == (0,):
        return source if isinstance(source, fx.Node) else None
    if node.target is operator.getitem and node.args[1] == 0 and isinstance(source, fx.Node) and _is_shape(source):
        tensor = source.args[0]
        return tensor if isinstance(tensor, fx.Node) else None
    return None


# In words.


def _mixing(reader: str) -> str:
    return f"its outputs are read by {reader}, which is not known to keep them apart"


def _two_operands(node: fx.Node, value: fx.Node) -> str:
    others = " and ".join(_operand(other) for other in node.all_input_nodes if other is not value)
    verb = _TWO_OPERANDS.get(_function_name(node).rstrip("_"))
    if verb is None:
        return f"its outputs are read by {_label(node)} together with {others}"
    return f"its outputs are {verb} {others}{_place(node)}"


def _operand(node: fx.Node) -> str:
    if node.op == "placeholder":
        return f"the input {node.target}"
    if node.op == "get_attr":
        return f"the tensor {node.target}"
    return f"those of {_label(node)}"


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else f"{_function_name(node)}{_place(node)}"


def _function_name(node: fx.Node) -> str:
    return re.sub(r"_\d+$", "", node.name)  # torch.fx numbers the calls of one function


def _place(node: fx.Node) -> str:
    """In which module's forward a function is called; nothing for the network's own."""
    modules = list(node.meta.get("nn_module_stack", {}))
    return f" in {modules[-1]}" if modules else ""
