"""Lightning alone, as its page on SLURM says: a Trainer under srun, with SLURMEnvironment's auto-requeue and --signal.

A ModelCheckpoint saves too, and training continues from the newest file that either of them has saved.
`python -m benchmarks.survival.with_lightning FOLDER` is what srun starts.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.survival.task import DIES_IN_SAVE, FaultCase, PlainTraining, die_in, finish


def start(case: FaultCase) -> None:
    script = case.path / "job.sh"
    script.write_text(f"""#!/bin/bash
#SBATCH --job-name={case.name}
#SBATCH --partition=main
#SBATCH --nodes=1 --ntasks-per-node=1 --gpus-per-node=1 --cpus-per-task=1
#SBATCH --time={case.minutes}
#SBATCH --signal=SIGUSR1@{case.warn}
#SBATCH --requeue --open-mode=append --output={case.path}/job.log
srun --cpus-per-task=1 {sys.executable} -u -m benchmarks.survival.with_lightning {case.path}
""")
    subprocess.run(["sbatch", str(script)], check=True)


def main(case: FaultCase) -> None:
    import fsspec.implementations.local
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    plain = PlainTraining(case)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = plain.model

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return plain.loss(self.global_step)

        def configure_optimizers(self) -> Any:
            return plain.optimizer()

    opener = fsspec.implementations.local.LocalFileOpener
    write = opener.write

    def dying_write(file: Any, content: bytes) -> Any:
        if module.global_step == DIES_IN_SAVE * plain.every:
            die_in(case, content, Path(file.temp if hasattr(file, "temp") else file.path))
        return write(file, content)

    opener.write = dying_write
    root, module = case.path / "root", Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        num_nodes=1,
        max_steps=plain.steps,
        max_epochs=-1,
        default_root_dir=root,
        plugins=[SLURMEnvironment(auto_requeue=True)],
        callbacks=[ModelCheckpoint(dirpath=root / "saved", every_n_train_steps=plain.every, save_top_k=-1)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    saved = sorted(root.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    batches = torch.utils.data.DataLoader(range(10**6), batch_size=None)  # the data follows from the update's number
    trainer.fit(module, batches, ckpt_path=saved[-1] if saved else None)
    if trainer.global_step == plain.steps:
        finish(case, plain.model)


if __name__ == "__main__":
    main(FaultCase.read(Path(sys.argv[1])))
