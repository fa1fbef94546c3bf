"""Sizes of a video as options of a command: what the models can take."""

from scaling.core.errors import UserError


def require_frames(option: str, value: int, stride: int) -> None:
    """Raises UserError where a VAE of this temporal stride cannot have so many frames."""
    if value < 1 or (value - 1) % stride:
        raise UserError(f"--{option} is {value}, but must be 1 + {stride}k, such as {value // stride * stride + 1}")


def require_side(option: str, value: int, unit: int) -> None:
    """Raises UserError where `unit` pixels, the side of a token, do not divide a height or width."""
    if value < 1 or value % unit:
        raise UserError(f"--{option} is {value}, but must be a multiple of {unit}")
