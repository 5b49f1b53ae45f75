"""Published peak figures of devices and links, and what part of them is assumed to be reached.

The peaks are the makers' figures, their sources named. Everything in :class:`Assumptions` is an assumption, made to be
replaced by a calibration (``smoe-ds calibrate``); nothing here was measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.config.nearest import nearest
from smoe_ds.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """Peak figures of an accelerator.

    Attributes:
        name: as PyTorch names it, in part: a measured device is known by it.
        flops: FLOP/s of dense matrix products by precision; a precision that the device lacks is not there.
        memory_bytes: of its memory [byte].
        bytes_per_second: of its memory [byte/s].
        within: link to the other devices of the host, see :data:`LINKS`.
        host: link to the host's memory.
        source: where the figures are from.
        capability: CUDA's compute capability, which kernels go by.
    """

    name: str
    flops: dict[str, float]
    memory_bytes: int
    bytes_per_second: float
    within: str
    host: str
    source: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Link:
    """A link in one direction.

    Attributes:
        bytes_per_second: peak in one direction: of a device within a host, of one port of a host between hosts.
        latency: assumed time of a message of no length, software included [s].
        source: where the peak is from.
        within: joins the devices of a host; otherwise hosts.
        efficiency: part of the peak that long messages are assumed to reach.
    """

    bytes_per_second: float
    latency: float
    source: str
    within: bool = False
    efficiency: float = 0.7


_V100 = "NVIDIA V100 data sheet (SXM2)"
_A100 = "NVIDIA A100 data sheet (SXM, 80 GB)"
_H100 = "NVIDIA H100 data sheet (SXM; half of the figures with sparsity)"
_H200 = "NVIDIA H200 data sheet (SXM; half of the figures with sparsity)"

DEVICES = {
    "v100": Device("V100", {"fp32": 15.7e12, "fp16": 125e12}, 32 * 10**9, 0.9e12, "nvlink2", "pcie3", _V100, (7, 0)),
    "a100": Device(
        "A100",
        {"fp32": 19.5e12, "fp16": 312e12, "bf16": 312e12},
        80 * 10**9,
        2.039e12,
        "nvlink3",
        "pcie4",
        _A100,
        (8, 0),
    ),
    "h100": Device(
        "H100",
        {"fp32": 67e12, "fp16": 989.5e12, "bf16": 989.5e12},
        80 * 10**9,
        3.35e12,
        "nvlink4",
        "pcie5",
        _H100,
        (9, 0),
    ),
    "h200": Device(
        "H200",
        {"fp32": 67e12, "fp16": 989.5e12, "bf16": 989.5e12},
        141 * 10**9,
        4.8e12,
        "nvlink4",
        "pcie5",
        _H200,
        (9, 0),
    ),
}

_PCI = "PCI Express base specification, 16 lanes, line code taken off"
_IB = "InfiniBand Trade Association's roadmap, 4 lanes"
_ETHERNET = "IEEE 802.3"

_NVLINK2 = Link(150e9, 10e-6, f"{_V100}: 300 GB/s in both directions together", within=True)
_PCIE3 = Link(15.75e9, 15e-6, _PCI, within=True)

LINKS = {
    "nvlink": _NVLINK2,
    "nvlink2": _NVLINK2,
    "nvlink3": Link(300e9, 10e-6, f"{_A100}: 600 GB/s in both directions together", within=True),
    "nvlink4": Link(450e9, 10e-6, f"{_H200}: 900 GB/s in both directions together", within=True),
    "pcie": _PCIE3,
    "pcie3": _PCIE3,
    "pcie4": Link(31.5e9, 15e-6, _PCI, within=True),
    "pcie5": Link(63e9, 15e-6, _PCI, within=True),
    "ib-fdr": Link(54.5e9 / 8, 20e-6, _IB),
    "ib-edr": Link(100e9 / 8, 20e-6, _IB),
    "ib-hdr": Link(200e9 / 8, 20e-6, _IB),
    "ib-ndr": Link(400e9 / 8, 20e-6, _IB),
    "ethernet-1g": Link(1e9 / 8, 60e-6, _ETHERNET),
    "ethernet-10g": Link(10e9 / 8, 60e-6, _ETHERNET),
    "ethernet-25g": Link(25e9 / 8, 60e-6, _ETHERNET),
    "ethernet-100g": Link(100e9 / 8, 60e-6, _ETHERNET),
}
"""``nvlink`` and ``pcie`` without a number are the oldest of the kind, that of V100s."""


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of a device that was not measured.

    Attributes:
        matrix_efficiency: part of the peak FLOP/s that large matrix products reach, elementwise work between them
            included.
        memory_efficiency: part of the peak bytes per second of elementwise work.
        sublayer: host's time to start the operations of an attention or feed-forward network, forward and backward [s].
        expert: the same of one expert [s].
        routing: the same of gate, choice and rows of one pass through a stratum [s].
        update_bytes: bytes read or written per parameter by an update: gradient, fp32 copy, two moments, weight.
        host_update: parameters per second that Adam updates on the host, with its vector instructions.
        read, draw: tokens per second of the data: what ``python -m tests.benchmarks.scaling --data 400000`` gave on one
            core of a server (tests/benchmarks/LOG.md), rounded.
    """

    matrix_efficiency: float = 0.4
    memory_efficiency: float = 0.7
    sublayer: float = 4e-4
    expert: float = 1e-4
    routing: float = 1.5e-3
    update_bytes: float = 32.0
    host_update: float = 1e9
    read: float = 18e6
    draw: float = 400e6


ASSUMED = Assumptions()


def device_of(name: str) -> Device:
    """A device by its name.

    Raises:
        ConfigError: it is not known.
    """
    if name.lower() not in DEVICES:
        raise ConfigError(f"--device {name}: {_choices(name, DEVICES)}, or measure it: smoe-ds calibrate")
    return DEVICES[name.lower()]


def link_of(name: str) -> tuple[str, Link]:
    """A link by its name, or from a JSON file with the fields of :class:`Link`; what it is called, and the link.

    Raises:
        ConfigError: it is neither, or the file is damaged.
    """
    if name.lower() in LINKS:
        return name.lower(), LINKS[name.lower()]
    path = Path(name)
    if path.suffix != ".json" and not path.is_file():
        raise ConfigError(f"--interconnect {name}: {_choices(name, LINKS)}, or a JSON file with {_FIELDS}")
    try:
        content = json.loads(path.read_bytes())
        link = Link(**content)
        numbers = [link.bytes_per_second, link.latency, link.efficiency]
        sound = all(isinstance(number, int | float) and 0 <= number < float("inf") for number in numbers)
        if not (sound and link.bytes_per_second > 0 and 0 < link.efficiency <= 1 and isinstance(link.source, str)):
            raise ValueError(f"{content}: numbers out of range")
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"--interconnect {name}: cannot be read ({error}); expected {_FIELDS}") from error
    return path.stem, link


_FIELDS = (
    '{"bytes_per_second": of one port in one direction, "latency": seconds, "source": "where this is from", '
    '"within": whether it joins devices of a host, "efficiency": part of the peak}'
)


def _choices(name: str, known: dict[str, Device] | dict[str, Link]) -> str:
    near = nearest(name.lower(), known)
    return f"unknown{f', did you mean {near}?' if near else ''}; known are {', '.join(known)}"
