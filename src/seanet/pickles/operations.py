"""The operations of a pickle, read by ``pickletools`` and answered on a stack of our own."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, cast

from seanet.pickles.described import Refused, StandIn, Storage
from seanet.pickles.machine import MARK, Machine

MOST = 500_000  # operations: each takes microseconds and may make a dictionary; a checkpoint needs a tenth


@dataclass(frozen=True)
class Pickle:
    """One pickle's content, how often each kind of object was left unread, and all numbers it refers to."""

    content: Any
    left: dict[str, int]
    storages: dict[str, Storage]


def read_pickle(file: BufferedIOBase, size: int) -> Pickle:
    """The pickle that begins where the file, of ``size`` bytes, stands; it is read to the pickle's end.  Raises Refused."""
    machine, bounded = Machine(size), cast(IO[bytes], _Bounded(file, size))
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(bounded)):
            if count >= MOST:
                raise Refused(f"it has more than {MOST:,} operations")
            step(machine, operation.name, argument)
    except Refused:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
        raise Refused(f"its pickle is damaged ({reason})") from None
    return Pickle(machine.result, machine.left, machine.storages)


class _Bounded:
    """A file that is never asked for more than it has: a length in a pickle may be anything."""

    def __init__(self, file: BufferedIOBase, size: int):
        self.file, self.size = file, size
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, max(self.size - self.file.tell(), 0)))


def step(machine: Machine, name: str, argument: Any) -> None:
    """What one operation does to the stack."""
    if name in VALUES:
        machine.stack.append(argument)
    elif name in CONSTANTS:
        machine.stack.append(CONSTANTS[name]())
    elif name in TUPLES:
        machine.stack.append(tuple([machine.pop() for _ in range(TUPLES[name])][::-1]))
    elif action := ACTIONS.get(name):
        action(machine, argument)
    else:
        raise Refused(f"its pickle uses the operation {name}, which no checkpoint needs")


def _new(machine: Machine, _: Any) -> None:
    arguments, what = machine.pop(), machine.pop()
    machine.call(what, arguments)


def _new_with_names(machine: Machine, _: Any) -> None:
    machine.pop()
    _new(machine, _)


def _old_object(machine: Machine, _: Any) -> None:
    what, *arguments = machine.since_mark()
    machine.call(what, tuple(arguments))


def _instance(machine: Machine, names: str) -> None:
    arguments = tuple(machine.since_mark())
    machine.name(*names.split(" ", 1))
    machine.call(machine.pop(), arguments)


def _dictionary(machine: Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    machine.update(items)


def _pair(machine: Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.update([key, value])


def _one(machine: Machine, _: Any) -> None:
    value = machine.pop()
    machine.extend([value])


def _stack_name(machine: Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _frozen(machine: Machine, _: Any) -> None:
    machine.since_mark()
    machine.stack.append(StandIn("builtins.frozenset"))


VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING"}
VALUES |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"}
VALUES |= {"BINUNICODE8", "FLOAT", "BINFLOAT"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: StandIn("builtins.set"),
    "MARK": lambda: MARK,
}
ACTIONS: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "DICT": _dictionary,
    "SETITEM": _pair,
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "APPEND": _one,
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.since_mark()),
    "FROZENSET": _frozen,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": _stack_name,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _new),
    "NEWOBJ_EX": _new_with_names,
    "OBJ": _old_object,
    "INST": _instance,
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.persistent(),
    "STOP": lambda machine, _: machine.stop(),
}
