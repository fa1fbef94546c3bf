"""What people, tables and figures call a stage and its record. Labels are never hashed."""

from scaling.core.specs import Spec


class Label(Spec):
    """For whom a stage is done: what people, tables and figures call it. Another sweep, or another phase
    of the same one, may ask for the same stage under another label."""

    sweep: str = ""
    phase: str = ""
    """The phase of the sweep, such as `training`, `tuning` or `target`."""
    size: str = ""
    """Name of the model's size, such as `w64d2`."""
    multiple: float | None = None
    """Multiple of the sweep's base compute; None where the stage has no budget."""
    axes: dict[str, str] = {}
    """The value of each axis that the sweep varies, by the name of the axis."""

    @property
    def compute(self) -> str:
        """The compute as people read it: `base`, `4x`, `0.25x`; empty where the stage has no budget."""
        return "" if self.multiple is None else compute_name(self.multiple)


def compute_name(multiple: float) -> str:
    """A multiple of the base compute as people read it: `base`, `4x`, `0.25x`."""
    return "base" if multiple == 1 else f"{multiple:g}x"
