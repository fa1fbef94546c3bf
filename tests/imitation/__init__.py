"""An imitation of SLURM's commands, for the faults that a real SLURM cannot be made to show on demand.

Tests use `handle.Imitation`; the programs that it puts on PATH run `commands` and `srun`; `state` is the cluster. Jobs
change only when a test changes them. Only what `slurm/` uses is imitated: any other option or field ends the command
with exit code 99. tests/test_imitation.py asks the imitation and a real SLURM the same questions. Nothing is imported
here, so that commands start in milliseconds.
"""
