"""``smoe-ds checkpoint ls|verify|diff|prune``: what a run has saved, whether it is whole, what differs, what can go."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import positive

if TYPE_CHECKING:
    from smoe_ds.checkpoints.inspection import Summary

HELP = "list, verify, compare and remove checkpoints"
_WHERE = "run folder, its folder of checkpoints, or one checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's own commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    ls = _action(
        actions, "ls", "list checkpoints: step, size, time, topology, validation loss, whether files are whole"
    )
    ls.add_argument("folder", type=Path, metavar="DIR", help=_WHERE)
    ls.add_argument("--verify", action="store_true", help="read every byte; without it only sizes are compared")
    verify = _action(actions, "verify", "compare every byte of every file with the manifest; exit code 2 for damage")
    verify.add_argument("folder", type=Path, metavar="DIR", help=_WHERE)
    diff = _action(actions, "diff", "show where two checkpoints differ; exit code 0 if nowhere, else 1")
    for name in ("A", "B"):
        diff.add_argument(name.lower(), type=Path, metavar=name, help="a checkpoint RUN/checkpoints/step_N, or a run")
    diff.add_argument("--all", action="store_true", help="every tensor that differs, not only the first twenty")
    prune = _action(actions, "prune", "remove checkpoints that are not needed; shows what it would do unless --yes")
    prune.add_argument("folder", type=Path, metavar="DIR", help="run folder, or its folder of checkpoints")
    prune.add_argument("--keep-last", type=positive, required=True, metavar="N", help="newest whole ones to keep")
    prune.add_argument("--keep-best", action="store_true", help="keep the one of lowest validation loss besides")
    prune.add_argument("--yes", action="store_true", help="remove them")


def run(args: argparse.Namespace) -> int:
    """Runs one action."""
    return _ACTIONS[args.action](args)


def _action(actions: argparse._SubParsersAction[Any], name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _ls(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints.inspection import checkpoint_folders, summarize

    folders = checkpoint_folders(args.folder)
    rows = [_row(summarize(folder, hashes=args.verify), args.verify) for folder in folders]
    print(_table(["step", "size", "written", "topology", "valid nll", "", "files"], rows))
    return 0


def _row(summary: Summary, hashed: bool) -> list[str]:
    from smoe_ds.checkpoints import format as fmt

    root, name = summary.folder.parent, summary.folder.name
    marks = [which for which in (fmt.BEST, fmt.LATEST) if fmt.read_pointer(root, which) == name]
    return [
        str(fmt.step_of(summary.folder)),
        f"{summary.bytes / 2**20:.1f} MiB",
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(summary.written)),
        _topology(summary.state),
        "-" if summary.nll is None else f"{summary.nll:.4f}",
        ", ".join(marks),
        "; ".join(summary.problems) or ("whole" if hashed else "sizes right"),
    ]


def _topology(state: dict[str, Any]) -> str:
    topology = state.get("topology")
    if not topology:
        return "weights alone" if "origin" in state else "-"
    parts = [f"{topology['world_size']} ranks", f"ep {topology['ep_size']}" if "ep_size" in topology else ""]
    parts += [f"ZeRO {topology['zero_stage']}", topology["model_dtype"], "offload" if topology.get("offload") else ""]
    return ", ".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    right = {0, 1, 4}
    lines = [
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _verify(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints import format as fmt
    from smoe_ds.checkpoints.inspection import checkpoint_folders, problems, strangers
    from smoe_ds.errors import CheckpointError

    wrong: list[str] = []
    folders = checkpoint_folders(args.folder)
    for folder in folders:
        found = problems(folder)
        wrong += found
        print(f"{folder}: {f'damaged, {len(found)} files' if found else 'whole'}", flush=True)
        for name in strangers(folder):
            print(f"note: {folder / name}: is not in {fmt.MANIFEST}; nothing reads it", file=sys.stderr)
    if wrong:
        raise CheckpointError("\n".join([*wrong, "restore the files, or go on from a checkpoint that is whole"]))
    return 0


_SHOWN = 20


def _diff(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints import format as fmt
    from smoe_ds.checkpoints.compare import compare
    from smoe_ds.checkpoints.inspection import differences, problems
    from smoe_ds.errors import CheckpointError

    one, other = (fmt.resolve_checkpoint(path, fmt.LATEST) for path in (args.a, args.b))
    if damage := [*problems(one), *problems(other)]:
        raise CheckpointError("\n".join(damage))
    print(f"A {one}\nB {other}")
    lines = [f"{key}: {_short(a)} | {_short(b)}" for key, a, b in differences(_described(one), _described(other))]
    tensors = sorted(compare(one, other), key=lambda d: -(float("inf") if d.largest is None else d.largest))
    shown = tensors if args.all else tensors[:_SHOWN]
    lines += [f"{difference.key} {difference.name}: {difference.text}" for difference in shown]
    if len(tensors) > len(shown):
        lines.append(f"and {len(tensors) - len(shown)} more tensors; --all shows them")
    print("\n".join(lines) or "no difference")
    return 1 if lines else 0


def _described(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, and the configuration of its run where that lies beside it."""
    from smoe_ds.checkpoints import format as fmt
    from smoe_ds.run.folder import RunFolder

    known = any(entry.name == fmt.STATE for entry in fmt.read_manifest(folder).files)
    described: dict[str, Any] = {"state": fmt.read_state(folder) if known else {}}
    config = RunFolder.of_checkpoint(folder).config
    if config.is_file():
        try:
            described["config"] = json.loads(config.read_bytes())
        except ValueError as error:
            described["config"] = f"{config} cannot be read ({error})"
    return described


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _prune(args: argparse.Namespace) -> int:
    from smoe_ds.checkpoints import format as fmt
    from smoe_ds.checkpoints.commit import discard_folder
    from smoe_ds.checkpoints.inspection import checkpoint_folders, superfluous
    from smoe_ds.errors import CheckpointError
    from smoe_ds.run.folder import RunFolder
    from smoe_ds.run.lock import locked

    folders = checkpoint_folders(args.folder)
    if folders[0] == args.folder:
        raise CheckpointError(f"{args.folder}: is one checkpoint; name the run folder, or its folder of checkpoints")
    root, run_folder = folders[0].parent, RunFolder.of_checkpoint(folders[0])
    with locked(run_folder.path) if args.yes and run_folder.lock.exists() else nullcontext():
        best = fmt.read_pointer(root, fmt.BEST) if args.keep_best else None
        doomed, damaged = superfluous(folders, args.keep_last, best)
        for wrong in damaged.values():
            print("\n".join(f"damaged: {text}" for text in wrong), file=sys.stderr)
        if not doomed and damaged:
            raise CheckpointError(f"{root}: none of the checkpoints is whole; nothing is removed")
        if args.yes:
            _point_elsewhere(root, doomed, [folder for folder in folders if folder not in doomed])
        for folder in folders:
            print(f"{'remove' if folder in doomed else 'keep'} {folder}")
            if args.yes and folder in doomed:
                discard_folder(folder)
    if doomed and not args.yes:
        print("nothing was removed; --yes removes", file=sys.stderr)
    return 0


def _point_elsewhere(root: Path, doomed: Sequence[Path], kept: Sequence[Path]) -> None:
    """No pointer is left to a folder that goes."""
    from smoe_ds.checkpoints import format as fmt
    from smoe_ds.checkpoints.commit import write_text_durably

    gone = {folder.name for folder in doomed}
    if fmt.read_pointer(root, fmt.LATEST) in gone:
        write_text_durably(root / fmt.LATEST, f"{kept[0].name}\n")
    if fmt.read_pointer(root, fmt.BEST) in gone:
        (root / fmt.BEST).unlink()


_ACTIONS = {"ls": _ls, "verify": _verify, "diff": _diff, "prune": _prune}
