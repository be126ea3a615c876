"""What is a function that runs on no crossbar, to a chip?"""

from __future__ import annotations

from typing import Literal

# An activation and a pool are for units that a chip may have; a product is what a user may have expected on crossbars.
FunctionKind = Literal["activation", "pool", "product", "other"]

_ACTIVATIONS = frozenset(
    """
    celu clamp elu gelu hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6 selu sigmoid silu
    softplus softsign tanh threshold
    """.split()
)
_POOLS = frozenset(
    """
    max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices adaptive_max_pool1d adaptive_max_pool2d
    """.split()
)
_PRODUCTS = frozenset(
    """
    __matmul__ __rmatmul__ addbmm addmm addmv addr baddbmm bilinear bmm cdist chain_matmul conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d convolution dot einsum ger gru gru_cell inner kron linear lstm
    lstm_cell matmul matrix_power mm multi_dot multi_head_attention_forward mv outer rnn_relu rnn_relu_cell rnn_tanh
    rnn_tanh_cell scaled_dot_product_attention _sparse_mm tensordot vdot
    """.split()
)
# Shapes, views, copies and constants: nothing is computed.
_FREE = frozenset(
    """
    T __format__ __get__ __getitem__ __iter__ __len__ __repr__ __set__ __setitem__ __str__ arange as_tensor cat chunk
    clone contiguous cpu data_ptr detach device dim dim_order dtype empty expand expand_as flatten flip float full
    get_device is_complex is_contiguous is_floating_point is_nested is_sparse item lift_fresh mT movedim narrow
    new_empty new_ones new_zeros numel numpy ones ones_like pad permute repeat requires_grad_ reshape reshape_as select
    shape size split squeeze stack storage_offset stride swapaxes t tensor to tolist transpose type unbind unflatten
    unsqueeze untyped_storage view view_as zeros zeros_like
    """.split()
)


def kind_of_function(name: str) -> FunctionKind | None:
    """What torch's function of that name is; None for what computes nothing. `relu_` is as `relu`."""
    if name in _FREE:
        return None
    plain = name if name.endswith("__") else name.rstrip("_")
    known: tuple[tuple[FunctionKind, frozenset[str]], ...] = (
        ("activation", _ACTIVATIONS),
        ("pool", _POOLS),
        ("product", _PRODUCTS),
    )
    for kind, names in known:
        if plain in names:
            return kind
    return "other"
