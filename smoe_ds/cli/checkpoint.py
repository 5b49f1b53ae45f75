"""``smoe-ds checkpoint ls|verify|diff|prune``: what a run has saved, whether it is whole, what differs, what can go."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from smoe_ds.cli.arguments import add_action
from smoe_ds.cli.values import positive

HELP = "list, verify, compare and remove checkpoints"
_WHERE = "run folder, its folder of checkpoints, or one checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's own commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    ls = add_action(actions, "ls", "list checkpoints with their step, size, time, ranks, validation loss and state")
    ls.add_argument("folder", type=Path, metavar="DIR", help=_WHERE)
    ls.add_argument("--verify", action="store_true", help="read every byte (default: compare only file sizes)")
    verify = add_action(
        actions, "verify", "check every byte against the manifest; the exit code is 2 if anything is wrong"
    )
    verify.add_argument("folder", type=Path, metavar="DIR", help=_WHERE)
    diff = add_action(actions, "diff", "show how two checkpoints differ; the exit code is 0 if they are equal, else 1")
    for name in ("A", "B"):
        help_text = "a checkpoint RUN/checkpoints/step_N, or a run folder for its newest one"
        diff.add_argument(name.lower(), type=Path, metavar=name, help=help_text)
    diff.add_argument("--all", action="store_true", help="show every tensor that differs (default: the first 20)")
    prune = add_action(actions, "prune", "remove checkpoints you do not need; without --yes, only show what would go")
    prune.add_argument("folder", type=Path, metavar="DIR", help="run folder, or its folder of checkpoints")
    prune.add_argument(
        "--keep-last", type=positive, required=True, metavar="N", help="keep the N newest checkpoints that are whole"
    )
    prune.add_argument("--keep-best", action="store_true", help="also keep the one with the lowest validation loss")
    prune.add_argument("--yes", action="store_true", help="really remove them")


def run(args: argparse.Namespace) -> int:
    """Runs one action."""
    return _ACTIONS[args.action](args)


def _ls(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints.inspection import checkpoint_folders, summarize
    from smoe_ds.report.checkpoints import list_table

    summaries = [summarize(folder, hashes=args.verify) for folder in checkpoint_folders(args.folder)]
    print(list_table(summaries).text(underlined=False))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints.inspection import checkpoint_folders, verify
    from smoe_ds.errors import CheckpointError
    from smoe_ds.report.checkpoints import stranger_notes, verification_text

    wrong: list[str] = []
    for folder in checkpoint_folders(args.folder):
        found = verify(folder)
        wrong += found.problems
        print(verification_text(found), flush=True)
        print("".join(f"{line}\n" for line in stranger_notes(found)), end="", file=sys.stderr)
    if wrong:
        raise CheckpointError("\n".join([*wrong, "restore these files, or continue from a checkpoint that is whole"]))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints.compare import compare_checkpoints
    from smoe_ds.checkpoints.format import LATEST, resolve_checkpoint
    from smoe_ds.report.checkpoints import comparison_text

    found = compare_checkpoints(*(resolve_checkpoint(path, LATEST) for path in (args.a, args.b)))
    print(comparison_text(found, every=args.all))
    return 0 if found.same else 1


def _prune(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints.inspection import checkpoint_folders
    from smoe_ds.checkpoints.retention import plan_retention, remove
    from smoe_ds.errors import CheckpointError
    from smoe_ds.report.checkpoints import retention_lines
    from smoe_ds.run.folder import RunFolder
    from smoe_ds.run.lock import locked

    folders = checkpoint_folders(args.folder)
    if folders[0] == args.folder:
        raise CheckpointError(f"{args.folder}: is one checkpoint; name the run folder, or its folder of checkpoints")
    run_folder = RunFolder.of_checkpoint(folders[0])
    with locked(run_folder.path) if args.yes and run_folder.lock.exists() else nullcontext():
        found = plan_retention(folders, args.keep_last, keep_best=args.keep_best)
        print("".join(f"damaged: {text}\n" for text in found.damage), end="", file=sys.stderr)
        print("\n".join(retention_lines(found)), flush=True)
        if args.yes:
            remove(found)
    if found.doomed and not args.yes:
        print("nothing was removed; add --yes to remove them", file=sys.stderr)
    return 0


_ACTIONS = {"ls": _ls, "verify": _verify, "diff": _diff, "prune": _prune}
