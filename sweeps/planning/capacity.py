"""What a plan has to know of the machine that a sweep will run on. Where that machine is, it does not know."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """Equal GPUs, of which a run takes one, two, four, ... and all runs together at most so many."""

    flops_per_gpu: float
    """FLOP/s that training reaches on one GPU."""
    peak_flops: float
    """FLOP/s that one GPU could reach."""
    gpus_per_node: int
    gpus_per_run: int
    """At most."""
    gpus: int
    """Of all runs together."""
    hours_per_run: float
    """A run takes twice the GPUs as long as it would take longer than that."""
    price_per_gpu_hour: float
    """US dollars."""

    def gpus_for(self, train_flops: float) -> int:
        """The fewest, a power of two on one node or full nodes beyond, that do a training in `hours_per_run`; all that
        a run may take where they do not."""
        count = 1
        while count < self.gpus_per_run and train_flops > count * self.flops_per_gpu * self.hours_per_run * 3600:
            count *= 2
        if count > self.gpus_per_node:
            count = -(-count // self.gpus_per_node) * self.gpus_per_node
        return min(count, self.gpus_per_run)
