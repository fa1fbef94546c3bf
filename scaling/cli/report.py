"""`scaling report RUNS`: the reviewers' page of an output folder."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "report",
        help="figures, tables and the page for reviewers",
        description="Writes one index.html that holds everything: clips side by side, the forecast, the runs.",
        epilog="examples:\n  scaling report out\n  scaling report out --out /tmp/page --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, metavar="RUNS", help="output folder that holds runs/")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the page (default: RUNS/report)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the page and says where it is. Raises UserError."""
    from sweeps.report_inputs import write_report

    page, data = write_report(args.runs, args.out or args.runs / "report")
    shown = sum(clip.path is not None for clip in data.clips)
    if args.json:
        result = {"page": str(page), "runs": len(data.runs), "clips": shown, "missing_clips": len(data.clips) - shown}
        print(json.dumps({**result, "missing": data.missing}))
    else:
        print(f"{page}: {len(data.runs)} runs, {shown} of {len(data.clips)} clips")
        for section, reason in data.missing.items():
            print(f"  no {section}: {reason}")
    return 0
