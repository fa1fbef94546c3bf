"""The capacity of a cluster, as far as a plan needs it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """Equal GPUs, of which a run takes one, two, four and so on, and all runs together at most `gpus`."""

    flops_per_gpu: float
    """FLOP/s that training reaches on one GPU."""
    peak_flops: float
    """FLOP/s that one GPU could reach."""
    gpus_per_node: int
    gpus_per_run: int
    """Most GPUs of one run."""
    gpus: int
    """Most GPUs of all runs together."""
    hours_per_run: float
    """Hours within which a run should end; the number of its GPUs is doubled until it does."""
    price_per_gpu_hour: float
    """Price of one GPU for one hour, in US dollars."""

    def gpus_for(self, train_flops: float) -> int:
        """The fewest GPUs that complete a training in `hours_per_run`: a power of two on one node, or full nodes. Where
        even the most of a run do not suffice, that many."""
        count = 1
        while count < self.gpus_per_run and train_flops > count * self.flops_per_gpu * self.hours_per_run * 3600:
            count *= 2
        if count > self.gpus_per_node:
            count = -(-count // self.gpus_per_node) * self.gpus_per_node
        return min(count, self.gpus_per_run)
