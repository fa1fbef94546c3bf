"""The precision that a stage asked for, as a setting of this process. What it is applied to is in
`scaling.distributed.precision`. Imports no torch."""

from collections.abc import Iterator
from contextlib import contextmanager

from scaling.core.specs import Precision

_requested: Precision | None = None


def request_precision(precision: Precision | None) -> None:
    """Sets the precision of the products that follow. None takes the default of the device."""
    global _requested
    _requested = precision


def requested_precision() -> Precision | None:
    """The precision that was set, or None."""
    return _requested


@contextmanager
def using_precision(precision: Precision | None) -> Iterator[None]:
    """Sets the precision inside of a block."""
    before = _requested
    request_precision(precision)
    try:
        yield
    finally:
        request_precision(before)
