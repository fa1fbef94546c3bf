"""The peak that a device's maker gives, against which utilisation is measured."""

import torch

BF16_PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}
"""Part of a GPU's name -> FLOP/s of its bfloat16 tensor cores without sparsity, from NVIDIA's data sheets; the first
that fits counts."""


def peak_flops() -> float | None:
    """FLOP/s of the first GPU that this process sees; None for one not listed, and on a CPU, whose clock moves."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name(0)
    return next((peak for part, peak in BF16_PEAKS.items() if part in name), None)
