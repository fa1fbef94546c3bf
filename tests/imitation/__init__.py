"""An imitation of SLURM's commands, for the faults that a real SLURM cannot be made to show on demand.

`handle.Imitation` is what tests hold; `commands` is what the programs on PATH run, and `srun` one of them; `state` is
the cluster. Jobs stand still until a test moves them. It does what `slurm/` asks for and no more: an option or a field
that is not imitated ends in a loud exit code 99. That it answers what SLURM answers is checked by
tests/test_imitation.py, which asks both. Nothing is imported here: commands start in milliseconds.
"""
