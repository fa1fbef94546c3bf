"""The precision of the matrix products and convolutions of this process: bfloat16 or float32. Weights, the sums along
the residual stream, losses and the optimizers' moments are float32 in both cases; the networks of the metrics always
compute in float32 (`scaling.metrics.precision`).

A stage sets it once, from its engine (`scaling.core.precision`). It belongs to the process, because training,
validation and sampling must not differ in it by mistake.
"""

import torch

from scaling.core.precision import requested_precision
from scaling.core.specs import Precision
from scaling.distributed.devices import current_device


def current_precision() -> Precision:
    """The precision that was set; by default bfloat16 on a GPU, and float32 on a CPU: many processors have no
    instructions for bfloat16, and then its products take ten times as long."""
    return requested_precision() or ("bf16" if current_device().type == "cuda" else "fp32")


def product_dtype() -> torch.dtype:
    """The type of the factors of a product."""
    return torch.bfloat16 if current_precision() == "bf16" else torch.float32


def autocast() -> torch.autocast:
    """Inside, products and convolutions have the precision that was set."""
    return torch.autocast(current_device().type, torch.bfloat16, enabled=current_precision() == "bf16")
