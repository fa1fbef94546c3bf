"""`scaling report RUNS`: the reviewers' page of an output folder."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scaling.cli.options import Json


def run(
    runs: Annotated[Path, Parameter(help="output folder that holds runs/")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="folder of the page (default: RUNS/report)")] = None,
    as_json: Json = False,
) -> int:
    """Writes the page for reviewers, one index.html: clips side by side, the forecast, the runs.

    examples:
      scaling report out
      scaling report out --out page --json
    """
    from sweeps.report_inputs import write_report

    page, data = write_report(runs, out or runs / "report")
    shown = sum(clip.path is not None for clip in data.clips)
    if as_json:
        result = {"page": str(page), "runs": len(data.runs), "clips": shown, "missing_clips": len(data.clips) - shown}
        print(json.dumps({**result, "missing": data.missing}))
    else:
        print(f"{page}: {len(data.runs)} runs, {shown} of {len(data.clips)} clips")
        for section, reason in data.missing.items():
            print(f"  no {section}: {reason}")
    return 0
