"""What a pickle may describe: tensors and arrays by their sizes, and names of objects that are not rebuilt.

Everything that comes in is a stranger's: sizes are checked before anything is made of them, and nothing here walks through
what is nested, which may contain itself a billion times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

LARGEST = 2**48  # of a size, a stride or an offset

ITEM_SIZES = {"bool": 1, "uint8": 1, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "float16": 2, "bfloat16": 2}
ITEM_SIZES |= {"int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8}
STORAGES = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Bool": "bool"}
STORAGES |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Untyped": "uint8"}
CODES = {"b1": "bool", "u1": "uint8", "i1": "int8", "f2": "float16", "i2": "int16", "u2": "uint16", "f4": "float32"}
CODES |= {"i4": "int32", "u4": "uint32", "f8": "float64", "i8": "int64", "u8": "uint64"}

PACKAGES = ("argparse", "collections", "datetime", "detectron2", "fvcore", "lightning", "lightning_fabric", "mmcv")
PACKAGES += ("mmdet", "mmengine", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "timm", "torch", "torchvision")
PACKAGES += ("yacs",)
"""Their classes stand beside the weights in checkpoints that people exchange; here they are inert."""
OTHERS = {f"builtins.{name}" for name in ("bytearray", "complex", "frozenset", "object", "range", "set", "slice")}
OTHERS |= {"__builtin__.set", "__builtin__.object", "__builtin__.frozenset", "__builtin__.xrange", "torch.device"}
OTHERS |= {"datetime.date", "datetime.datetime", "datetime.timedelta", "collections.deque", "numpy.ndarray"}
OTHERS |= {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")} | {f"torch.{name}" for name in ITEM_SIZES}
"""Further globals that are inert here."""


class Refused(ValueError):
    """A file that is damaged, or that asks for what no checkpoint needs; the message says what."""


@dataclass(frozen=True)
class Name:
    """A global that the file names; nothing is imported for it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def harmless(self) -> bool:
        """Whether it may stand in a checkpoint without being rebuilt."""
        known = self.module.partition(".")[0] in PACKAGES
        return (known and self.name[:1].isupper()) or str(self) in OTHERS


@dataclass(frozen=True)
class StandIn:
    """In place of an object that is not rebuilt."""

    of: str


@dataclass(frozen=True)
class Storage:
    """Numbers elsewhere in the file."""

    key: str
    dtype: str
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * ITEM_SIZES[self.dtype]


@dataclass(frozen=True)
class Stored:
    """A tensor as the file describes it; stride and offset count elements."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    data: Storage | bytes


@dataclass
class Array:
    """A numpy array, empty until the file tells its contents."""

    stored: Stored | None = None


@dataclass
class Dtype:
    """Of a numpy array: a kind and a size such as f4, and the order of its bytes."""

    code: str
    little: bool = True


def storage(description: Any) -> Storage:
    """From what a file of PyTorch calls a persistent id."""
    match description:
        case ("storage", Name() as kind, str() | int() as key, str(), int() as count, *rest) if not any(rest):
            dtype, key = STORAGES.get(kind.name.removesuffix("Storage")), str(key)
            if dtype is None or not 0 <= count < LARGEST or len(key) > 100:
                raise Refused(f"it keeps numbers as {kind}, which are not read")
            return Storage(key, dtype, count)
    raise Refused("it refers to something outside of it that is no tensor's numbers")


def tensor(data: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Stored:
    """A view of stored numbers, inside them and no larger than they are."""
    if not isinstance(data, Storage):
        raise Refused("a tensor of it has no numbers")
    return _view(data, data.dtype, data.count, offset, shape, stride)


def tensor_of_dtype(
    data: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Stored:
    """The same of bytes whose type is named apart."""
    if not isinstance(data, Storage) or not isinstance(dtype, Name) or dtype.name not in ITEM_SIZES:
        raise Refused("a tensor of it has numbers of a type that is not read")
    return _view(data, dtype.name, data.nbytes // ITEM_SIZES[dtype.name], offset, shape, stride)


def _view(data: Storage, dtype: str, count: int, offset: Any, shape: Any, stride: Any) -> Stored:
    check_counts(shape), check_counts(stride), check_counts((offset,))
    numel = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if numel else offset - 1
    if last >= count or numel > count:
        raise Refused(f"a tensor of shape {tuple(shape)} does not fit its {count:,} numbers")
    return Stored(dtype, tuple(shape), tuple(stride), offset, data)


def array(shape: Any, dtype: Any, fortran: bool, data: bytes) -> Stored:
    """A whole numpy array, of little-endian numbers."""
    check_counts(shape)
    name = CODES.get(dtype.code) if isinstance(dtype, Dtype) and dtype.little else None
    if name is None:
        raise Refused("an array of it holds no numbers that are read")
    if math.prod(shape) * ITEM_SIZES[name] != len(data):
        raise Refused(f"an array of shape {tuple(shape)} does not fit its {len(data):,} bytes")
    sides = shape if fortran else shape[::-1]
    steps = tuple(math.prod(sides[:i]) for i in range(len(sides)))
    return Stored(name, tuple(shape), steps if fortran else steps[::-1], 0, data)


def dtype_of(code: Any, *_: Any) -> Dtype:
    if isinstance(code, bytes):
        code = code.decode("latin1")
    return Dtype(code if isinstance(code, str) else "")


def check_counts(values: Any) -> None:
    right = isinstance(values, tuple | list) and len(values) <= 32
    if not right or not all(type(value) is int and 0 <= value < LARGEST for value in values):
        raise Refused("a tensor of it has sizes that are none")
