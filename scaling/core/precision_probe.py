"""What is timed to decide in which precision a processor trains faster: an update of the VAE and one of the largest
run, as one process sees them. How it is timed is in `scaling.training.precision_probe`."""

from scaling.core.specs import DiTSpec, Spec, TextSpec, VAESpec, VAETrainSpec


class PrecisionProbe(Spec):
    """Two trainings that are timed in each precision."""

    vae: VAESpec
    vae_train: VAETrainSpec
    crops: int
    """Crops of an update."""
    vae_updates: int
    """Updates that the training of the VAE takes; the weight of its time."""
    dit: DiTSpec
    text: TextSpec
    grid: tuple[int, int, int]
    """Tokens of a clip along t, h, w."""
    clips: int
    """Clips of an update."""
    dit_updates: float
    """Updates of this size that all training runs take together; the weight of their time."""
    threads: int
    """CPU threads of the process."""
