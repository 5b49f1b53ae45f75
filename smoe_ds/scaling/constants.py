"""The constants of the step time: a line per kind of work, each measured or assumed, with where it is from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from smoe_ds.errors import ConfigError
from smoe_ds.moe.expert_backends import Accelerator
from smoe_ds.scaling.hardware import ASSUMED, DEVICES, LINKS, Device, Link, device_of, link_of
from smoe_ds.scaling.line import Line, fit_line

FORMAT, VERSION = "smoe_ds constants", 1
KINDS = {
    "dense": "FLOP of everything outside the routed experts, forward and backward; fixed per sublayer",
    "expert": "FLOP of an expert, forward and backward; fixed per expert and pass",
    "routing": "bytes of rows touched around the experts, forward and backward; fixed per pass through a stratum",
    "memory": "bytes read or written by elementwise work",
    "update": "parameters updated on the device; fixed per update",
    "host_update": "parameters updated on the host",
    "transfer": "bytes between device and host",
    "read": "tokens of a rank's own micro-batches",
    "draw": "tokens of all ranks' micro-batches, whose order every rank draws",
    "all_to_all_within": "bytes a rank sends to others of its host; fixed per message",
    "all_to_all_between": "bytes a host sends to others; fixed per message",
    "all_reduce_within": "bytes a rank passes on within its host; fixed per step of the ring",
    "all_reduce_between": "bytes a host passes on to the next; fixed per step",
}
"""What each constant counts."""
_DEVICE_OF_ENGINE = {"fp16": "v100", "bf16": "h200"}
BETWEEN = ("all_to_all_between", "all_reduce_between")


@dataclass(frozen=True)
class Constant:
    """A line, and where it is from.

    Attributes:
        line: seconds over work.
        measured: by a calibration; otherwise assumed from published peaks.
        source: of an assumed one: the peak and the part of it.
        points: of a measured one: work and seconds.
        calls: of a measured one: calls that make up each point.
    """

    line: Line
    measured: bool
    source: str = ""
    points: tuple[tuple[float, float], ...] = ()
    calls: int = 1

    def misfit(self) -> float:
        """The largest relative distance of the points from the line; 0 without points."""
        return max((abs(self.line.seconds(work, self.calls) / t - 1) for work, t in self.points), default=0.0)


@dataclass(frozen=True)
class Constants:
    """All constants of a device and its links.

    Attributes:
        device: its name.
        accelerator: ``cuda`` or ``cpu``; on a processor nothing runs beside the computation.
        precision: of the run it was measured or assumed for.
        lines: by kind, see :data:`KINDS`; kinds that are not known are not there.
        memory_bytes: of the device; None where it is not known.
        spare_core: whether a rank has a core left over to prepare data on.
        padded_share: tokens of a micro-batch, padding included, over the budget.
        real_share: tokens that are no padding, over all of a micro-batch.
        circumstances: of a measurement: hosts, ranks per host, threads, cores, model, versions, date.
    """

    device: str
    accelerator: str
    precision: str
    lines: dict[str, Constant]
    memory_bytes: int | None = None
    spare_core: bool = True
    padded_share: float = 1.0
    real_share: float = 1.0
    circumstances: dict[str, Any] = field(default_factory=dict)

    @property
    def computed_on(self) -> Accelerator:
        """What the layer's choices depend on; the compute capability of a device that is not known is left open."""
        known = _known_device(self.device) if self.accelerator == "cuda" else None
        return Accelerator(self.accelerator, known.capability if known else None)

    def line(self, kind: str) -> Line:
        """The line of a kind.

        Raises:
            ConfigError: it is neither measured nor assumed; says how to get it.
        """
        if kind in self.lines:
            return self.lines[kind].line
        if kind in BETWEEN:
            remedy = f"name the link between the hosts: --interconnect {'|'.join(n for n in LINKS if '-' in n)}"
        elif kind.startswith("all_"):
            remedy = f"calibrate with several ranks a host, or name the link: --interconnect {'|'.join(LINKS)}"
        else:
            remedy = f"calibrate again, or take published figures: --device {'|'.join(DEVICES)}"
        raise ConfigError(f"{self.device}: {kind.replace('_', ' ')} was not measured ({KINDS[kind]}); {remedy}")

    def measured(self, *kinds: str) -> bool:
        """Whether all of these are measured."""
        return all(kind in self.lines and self.lines[kind].measured for kind in kinds)

    def with_links(self, links: Mapping[str, Link], ports: int) -> Constants:
        """These constants with links of that name instead of theirs.

        Args:
            links: by name.
            ports: ports of a host to the others; only for links between hosts.
        """
        lines = dict(self.lines)
        for name, link in links.items():
            lines.update(_link_lines(name, link, ports))
        return replace(self, lines=lines)

    def as_json(self) -> dict[str, Any]:
        """What :func:`load_constants` reads."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def assumed_constants(device_name: str, precision: str) -> Constants:
    """Constants from the published figures of a device, and the links within its host.

    Raises:
        ConfigError: the device is not known, or does not have the precision.
    """
    device = device_of(device_name)
    if precision not in device.flops:
        raise ConfigError(
            f"--device {device_name}: has no {precision}, which the run asks for; it has {', '.join(device.flops)}"
        )
    link = {device.within: LINKS[device.within]}
    lines = _device_lines(device, precision)
    return Constants(device.name, "cuda", precision, lines, device.memory_bytes).with_links(link, 1)


def _device_lines(device: Device, precision: str) -> dict[str, Constant]:
    matrix, memory = ASSUMED.matrix_efficiency, ASSUMED.memory_efficiency
    flops = f"{matrix:g} of {device.flops[precision]:.4g} FLOP/s ({device.source})"
    stream = f"{memory:g} of {device.bytes_per_second:.4g} byte/s ({device.source})"
    host = LINKS[device.host]
    streaming = memory * device.bytes_per_second
    return {
        "dense": Constant(Line(ASSUMED.sublayer, matrix * device.flops[precision]), False, flops),
        "expert": Constant(Line(ASSUMED.expert, matrix * device.flops[precision]), False, flops),
        "routing": Constant(Line(ASSUMED.routing, streaming), False, stream),
        "memory": Constant(Line(0.0, streaming), False, stream),
        "update": Constant(Line(0.0, streaming / ASSUMED.update_bytes), False, stream),
        "host_update": Constant(Line(0.0, ASSUMED.host_update), False, "no figure published"),
        "transfer": _of_link(device.host, host, host.bytes_per_second),
        **_data_lines(),
    }


def _data_lines() -> dict[str, Constant]:
    """Data as on another machine: the processors of hosts differ less than their devices."""
    source = "a core of another server, see tests/benchmarks/LOG.md"
    return {name: Constant(Line(0.0, getattr(ASSUMED, name)), False, source) for name in ("read", "draw")}


def _link_lines(name: str, link: Link, ports: int) -> dict[str, Constant]:
    place = "within" if link.within else "between"
    peak = link.bytes_per_second * (1 if link.within else ports)
    return {f"{collective}_{place}": _of_link(name, link, peak) for collective in ("all_to_all", "all_reduce")}


def _of_link(name: str, link: Link, peak: float) -> Constant:
    source = f"{link.efficiency:g} of {peak:.4g} byte/s ({name}: {link.source})"
    return Constant(Line(link.latency, link.efficiency * peak), False, source)


def choose_constants(
    precision: str, *, file: Path | None, device: str | None, interconnect: str | None, ports: int
) -> Constants:
    """The constants that a user's words name.

    Args:
        precision: of the run.
        file: measured constants; what they lack is assumed where the device is a known one.
        device: published figures of this device; None: without a file the device of the shipped engine for the
            precision, V100 for fp16 and H200 for bf16.
        interconnect: links, comma-separated, which take the place of measured or assumed ones.
        ports: ports of a host to the others.

    Raises:
        ConfigError: names that are not known or contradict each other, or a damaged file.
    """
    if file is None:
        name = device or _DEVICE_OF_ENGINE.get(precision)
        if name is None:
            raise ConfigError(
                f"which device? The run is in {precision}; name one (--device {'|'.join(DEVICES)}), or measured "
                "constants (--constants FILE, from smoe-ds calibrate)"
            )
        constants = assumed_constants(name, precision)
    else:
        constants = load_constants(file)
        if device is not None and device_of(device).name.lower() not in constants.device.lower():
            raise ConfigError(
                f"--constants {file}: were measured on {constants.device}, not on --device {device}; name one of them, "
                "or calibrate there"
            )
        constants = _completed(constants)
    links = dict(link_of(name) for name in interconnect.split(",")) if interconnect else {}
    return constants.with_links(links, ports)


def _completed(constants: Constants) -> Constants:
    """Measured constants, with assumed ones for data where no corpus was at hand, and all the rest of known devices."""
    constants = replace(constants, lines={**_data_lines(), **constants.lines})
    device = _known_device(constants.device)
    if device is None or constants.precision not in device.flops:
        return constants
    assumed = assumed_constants(device.name, constants.precision)
    memory = constants.memory_bytes or assumed.memory_bytes
    return replace(constants, lines={**assumed.lines, **constants.lines}, memory_bytes=memory)


def _known_device(name: str) -> Device | None:
    """The device that PyTorch's name of one speaks of, if its figures are known."""
    return next((device for device in DEVICES.values() if device.name.lower() in name.lower()), None)


def load_constants(path: Path) -> Constants:
    """Constants that a calibration wrote.

    Raises:
        ConfigError: the file is missing, damaged or of another version.
    """
    try:
        content = json.loads(path.read_bytes())
        found = (content.pop("format"), content.pop("version"))
        lines = {kind: _constant(entry) for kind, entry in content.pop("lines").items()}
        constants = Constants(lines=lines, **content)
        _check(constants)
    except OSError as error:
        raise ConfigError(
            f"--constants {path}: cannot be read: {error.strerror}; write it: smoe-ds calibrate"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"--constants {path}: is damaged, or no file of smoe-ds calibrate ({type(error).__name__}: {error}); "
            "calibrate again"
        ) from error
    if found != (FORMAT, VERSION):
        raise ConfigError(
            f"--constants {path}: expected {FORMAT} {VERSION}, found {found[0]} {found[1]}; calibrate again"
        )
    return constants


def _constant(entry: dict[str, Any]) -> Constant:
    points = tuple((float(work), float(seconds)) for work, seconds in entry["points"])
    return Constant(Line(**entry["line"]), bool(entry["measured"]), str(entry["source"]), points, int(entry["calls"]))


def measured(points: Iterable[tuple[float, float]], calls: int = 1) -> Constant:
    """The constant behind measured points of work and seconds, each of so many calls that share the fixed cost."""
    found = tuple(points)
    line = fit_line(found)
    return Constant(Line(line.fixed / calls, line.per_second), True, "", found, calls)


def _check(constants: Constants) -> None:
    """Refuses what cannot be: damage that still is JSON."""
    if unknown := sorted(set(constants.lines) - set(KINDS)):
        raise ValueError(f"unknown constants {', '.join(unknown)}")
    if not all(isinstance(text, str) for text in (constants.device, constants.accelerator, constants.precision)):
        raise TypeError("device, accelerator and precision must be texts")
    if not (0 < constants.padded_share <= 1 and 0 < constants.real_share <= 1):
        raise ValueError(f"shares of tokens out of range: {constants.padded_share}, {constants.real_share}")
    if not isinstance(constants.circumstances, dict):
        raise TypeError("circumstances must be an object")
