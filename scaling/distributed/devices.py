"""The device that this process computes on, and the peak speed against which its utilization is measured.

The division of work among several devices is in `scaling.distributed.group` and `scaling.distributed.shards`.
"""

import torch

BF16_PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}
"""Maps a part of a GPU's name to the FLOP/s of its bfloat16 tensor cores without sparsity, from NVIDIA's data sheets.
The first part that the name contains counts."""


def current_device() -> torch.device:
    """The device of this process: the GPU that is current in torch, or the CPU where there is no GPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_flops() -> float | None:
    """Peak FLOP/s of the first GPU that this process sees. None for a GPU that is not listed above, and for a CPU,
    because its clock rate varies."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name(0)
    return next((peak for part, peak in BF16_PEAKS.items() if part in name), None)
