"""The limit in GPU-hours of a submitted sweep, read from its request without the rest of the request (`slurm.request`),
so that `scaling status` does not load the fields of a sweep and of a cluster."""

from pathlib import Path

from scaling.core.store import read_document


def read_budget_limit(out: Path) -> float | None:
    """The limit, or None where there is no limit or nothing was submitted from this folder. Raises UserError where the
    document is not valid JSON."""
    document = read_document(request_path(out)) if request_path(out).exists() else None
    limit = document.get("budget_gpu_hours") if isinstance(document, dict) else None
    return float(limit) if isinstance(limit, int | float) else None


def request_path(out: Path) -> Path:
    """The document of the request."""
    return out / "slurm" / "request.json"
