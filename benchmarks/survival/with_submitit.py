"""Submitit alone, as its docs/checkpointing.md says: a Checkpointable that saves as it goes, resumes from the newest
save, and is requeued as it is. Unlike those of its examples, the saves replace the previous one atomically."""

import io
import os
from pathlib import Path

import submitit

from benchmarks.survival.task import DIES_IN_SAVE, FaultCase, PlainTraining, die_in, finish


class Training(submitit.helpers.Checkpointable):
    """Trains from the newest checkpoint."""

    def __call__(self, folder: str) -> str:
        import torch

        case = FaultCase.read(Path(folder))
        plain = PlainTraining(case)
        optimizer = plain.optimizer()
        newest, step = case.path / "newest.pt", 0
        if newest.exists():
            state = torch.load(newest, weights_only=True)
            plain.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            step = state["step"]
        while step < plain.steps:
            optimizer.zero_grad()
            plain.loss(step).backward()
            optimizer.step()
            step += 1
            if step % plain.every == 0:
                buffer = io.BytesIO()
                state = {"model": plain.model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save(state, buffer)
                tmp = newest.with_suffix(".tmp")
                if step == DIES_IN_SAVE * plain.every:
                    die_in(case, buffer.getvalue(), tmp)
                tmp.write_bytes(buffer.getvalue())
                os.replace(tmp, newest)
        finish(case, plain.model)
        return "done"


def start(case: FaultCase) -> None:
    executor = submitit.AutoExecutor(folder=case.path / "jobs", cluster="slurm")
    executor.update_parameters(
        timeout_min=case.minutes,
        tasks_per_node=1,
        cpus_per_task=1,
        gpus_per_node=1,
        slurm_partition="main",
        slurm_job_name=case.name,
        slurm_signal_delay_s=case.warn,
        slurm_srun_args=["--cpus-per-task=1"],
    )
    print(executor.submit(Training(), str(case.path)).job_id, flush=True)
