"""The stages of a sweep by what a test calls them, each made by a builder of its own."""

from sweeps.ladder import ladder_run, ladder_runs, target_run, trial_run
from sweeps.stages import StageBuilder


def shared_stages(sweep):
    """Data, VAE, latents, reference and reconstruction."""
    return StageBuilder.for_sweep(sweep).shared(sweep)


def shared_list(sweep):
    """Those that runs and their metrics need."""
    shared = shared_stages(sweep)
    return [shared.data, shared.vae, shared.latents, shared.reference]


def run_stage(sweep, multiple, size):
    """One run of the ladder, or the target in one size."""
    builder = StageBuilder.for_sweep(sweep)
    run = target_run(sweep, size) if multiple == sweep.target else ladder_run(sweep, multiple, size)
    return builder.run(run, "target" if multiple == sweep.target else "training")


def ladder_stages(sweep):
    """The runs that the law is fitted to."""
    builder = StageBuilder.for_sweep(sweep)
    return [builder.run(run) for run in ladder_runs(sweep)]


def trunk_stages(sweep):
    """What those runs continue."""
    builder = StageBuilder.for_sweep(sweep)
    return list({stage.id: stage for run in ladder_runs(sweep) for stage in builder.trunks(run)}.values())


def metrics_stage(sweep, multiple, size):
    """The metrics of one run."""
    builder = StageBuilder.for_sweep(sweep)
    run = target_run(sweep, size) if multiple == sweep.target else ladder_run(sweep, multiple, size)
    return builder.metrics(run, run_stage(sweep, multiple, size))


def trial_stage(sweep, rates):
    """A trial of the tuning."""
    return StageBuilder.for_sweep(sweep).run(trial_run(sweep, rates), "tuning")
