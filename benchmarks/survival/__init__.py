"""Who survives what: the same faults of a SLURM cluster, given to this project, to Submitit and to Lightning.

`python -m benchmarks.survival`; the result, and what it means, is docs/survival.md. Each tool is set up as its own
documentation says, and trains the same tiny model.
"""
