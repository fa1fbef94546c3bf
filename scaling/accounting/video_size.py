"""Checks of a video's size where it is an option of a command: the models take some sizes only."""

from scaling.core.errors import UserError


def require_frames(option: str, value: int, stride: int) -> None:
    """Raises UserError where a VAE of this temporal stride cannot take this number of frames."""
    if value < 1 or (value - 1) % stride:
        raise UserError(f"--{option} is {value}, but must be 1 + {stride}k, such as {value // stride * stride + 1}")


def require_side(option: str, value: int, unit: int) -> None:
    """Raises UserError where a height or width is not a multiple of `unit`, the side of a token in pixels."""
    if value < 1 or value % unit:
        raise UserError(f"--{option} is {value}, but must be a multiple of {unit}")
