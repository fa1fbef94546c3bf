"""`python -m benchmarks`: our models timed against same-shaped peers on this machine, in one process. See README.md."""

import argparse
import json
import os
import sys

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.cases import KINDS, Case, cases
from benchmarks.measure import matmul_ceiling
from benchmarks.packing import waste
from benchmarks.precision import DTYPE, Precision
from benchmarks.report import HEADER, Result, document, markdown, measure, setting, waste_markdown
from benchmarks.shapes import CPU_MIXES

EXAMPLES = """examples:
  python -m benchmarks
  python -m benchmarks training packing --precision bf16 --json"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times our models against same-shaped peers; needs the extra 'bench'.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    parser.add_argument("--precision", choices=list(DTYPE), help="default: both, one after the other")
    parser.add_argument("--shape", metavar="TEXT", default="", help="only shapes whose name contains this")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each case (default: %(default)g)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    if unknown := [kind for kind in args.kinds if kind not in KINDS]:
        parser.error(f"unknown KIND '{unknown[0]}'; known: {', '.join(KINDS)}")
    if args.threads < 1 or args.seconds <= 0:
        parser.error("--threads and --seconds must be positive")

    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions: tuple[Precision, ...] = (args.precision,) if args.precision else tuple(DTYPE)
    chosen: list[Case] = [
        case for case in cases(tuple(args.kinds) or KINDS, precisions, device.type) if args.shape in case.shape
    ]
    if not chosen:
        parser.error(f"--shape is '{args.shape}', which no case's shape contains")
    ceilings = {precision: matmul_ceiling(device, DTYPE[precision]) for precision in precisions}
    machine = setting(device, args.threads, ceilings)
    print_line = print if not args.json else _print_nothing
    print_line(f"{machine['text']}\n\n{HEADER}", flush=True)
    results: list[Result] = []
    for case in track(chosen, "benchmarks", console=Console(stderr=True)):
        results.append(measure(case, device, args.seconds, args.threads))
        print_line(markdown(results[-1], ceilings[case.precision]), flush=True)
    wasted = {mix.name: waste(mix) for mix in CPU_MIXES[:1]} if any(c.kind == "packing" for c in chosen) else {}
    for name, shares in wasted.items():
        print_line(f"\n{waste_markdown(name, shares)}")
    if args.json:
        print(json.dumps(document(results, wasted, machine, ceilings), indent=1))
    return 0


def _print_nothing(*_: object, **__: object) -> None:
    """Says nothing: with --json, stdout is one document."""


if __name__ == "__main__":
    sys.exit(main())
