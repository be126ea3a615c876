"""What do the networks of images refuse? Sizes that are none, and images of another shape than theirs."""

from torch import Tensor


def check_sizes(least: int = 1, **sizes: int) -> None:
    """Raise ValueError for the first of `sizes` that is less than `least`, by its name."""
    for name, value in sizes.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_images(x: Tensor, channels: int, size: int | None = None) -> None:
    """Raise ValueError unless `x` is [n, channels, size, size]; a `size` of None is any height and any width."""
    if not isinstance(x, Tensor):
        return  # a proxy of torch.fx, which has no shape yet
    if x.dim() == 4 and x.shape[1] == channels and (size is None or tuple(x.shape[2:]) == (size, size)):
        return
    expected = f"[n, {channels}, height, width]" if size is None else f"[n, {channels}, {size}, {size}]"
    raise ValueError(f"expected images {expected}, got a tensor {list(x.shape)}")
