"""The machine that a sweep runs on when it runs here: an assumption of its plan, and the engine of its stages."""

from typing import Self

from pydantic import Field, model_validator

from scaling.core.specs import EngineSpec, Spec

JOB_BYTES = 1.5e9
"""Memory for one job on a CPU. An assumption with room: two jobs of `demo` and their controller together were seen at
1.73 GB."""
MOST_THREADS = 8
"""Most CPU threads of a job that has the machine to itself. An assumption: the products of an update of 16 clips of
80 tokens are too small to be divided among more."""


class HardwareSpec(Spec):
    """What a plan assumes of the machine. It is not part of any id: results depend on it by rounding only. What is null
    follows from the machine on which the sweep runs: its cores and its memory, or those of the container."""

    flops_per_second: float = Field(1e11, gt=0)
    """Training speed of one job, all its devices together, as measured or assumed."""
    jobs: int | None = Field(None, ge=1)
    """Number of jobs at a time. Null: one for each core, if memory suffices."""
    gpus: int = Field(0, ge=0)
    """GPUs of one job; 0 trains on the CPU."""
    price_per_hour: float = Field(0.0, ge=0)
    """Price in US dollars of one GPU, or of the whole machine where it has none."""
    threads: int = Field(1, ge=1)
    """CPU threads of a small job."""
    target_threads: int | None = Field(None, ge=1)
    """CPU threads of a job that has the machine to itself: the VAE, the latents, the target run. Null: one for each
    core, eight at most."""
    engine: EngineSpec = EngineSpec()
    """How training uses the machine of its job, except for the threads, which are given above."""

    @model_validator(mode="after")
    def _one_rank_for_each_gpu(self) -> Self:
        if self.engine.threads != 1:
            raise ValueError("engine.threads: give 'threads' and 'target_threads' instead")
        if self.gpus and self.engine.processes != self.gpus:
            raise ValueError(f"engine.processes is {self.engine.processes}: make it {self.gpus}, one for each GPU")
        return self

    def on_machine(self, cores: int, memory: float) -> "HardwareSpec":
        """The same with every null filled in, for a machine with these cores and bytes of memory."""
        jobs = self.jobs or max(1, min(cores, int(memory / JOB_BYTES)))
        threads = self.target_threads or (self.threads if self.gpus else min(cores, MOST_THREADS))
        return self.replace(jobs=jobs, target_threads=threads)

    def single(self, *, alone: bool) -> EngineSpec:
        """The engine of a stage that trains nothing, one process."""
        return EngineSpec(threads=self._threads(alone), precision=self.engine.precision)

    def training(self, *, alone: bool) -> EngineSpec:
        """The engine of a stage that trains a DiT."""
        return self.engine.replace(threads=self._threads(alone))

    def _threads(self, alone: bool) -> int:
        return self.target_threads or self.threads if alone else self.threads

    def training_vae(self) -> EngineSpec:
        """The engine of the stage that trains the VAE, which has the machine to itself: like a DiT's, but its weights
        are never divided, and its micro-batches are crops of one size."""
        return self.training(alone=True).replace(sharding="replicate", micro_tokens=None)
