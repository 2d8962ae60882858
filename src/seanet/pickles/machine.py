"""The operations of a pickle, read by ``pickletools`` and answered on a stack of our own."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, cast

from seanet.pickles.described import (
    Array,
    Dtype,
    Name,
    Refused,
    StandIn,
    Storage,
    Stored,
    array,
    dtype_of,
    storage,
    tensor,
    tensor_of_dtype,
)

MOST = 500_000  # operations: each takes microseconds and may make a dictionary; a checkpoint needs a tenth
LONGEST = 200  # letters of a global's name


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
            machine.step(operation.name, argument)
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


MARK = object()


class Machine:
    """The stack and the memo of a pickle, and what its operations do to them."""

    def __init__(self, size: int):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left: dict[str, int] = {}
        self.storages: dict[str, Storage] = {}
        self.result: Any = None
        self.budget = 2 * size  # bytes and entries that may be copied

    def step(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in TUPLES:
            self.stack.append(tuple([self.pop() for _ in range(TUPLES[name])][::-1]))
        elif action := ACTIONS.get(name):
            action(self, argument)
        else:
            raise Refused(f"its pickle uses the operation {name}, which no checkpoint needs")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise Refused("its pickle is damaged (a mark where a value should be)")
        return value

    def since_mark(self) -> list[Any]:
        items = []
        while (value := self.stack.pop()) is not MARK:
            items.append(value)
        return items[::-1]

    def get(self, key: Any) -> None:
        self.stack.append(self.memo[int(key)])

    def put(self, key: Any) -> None:
        self.memo[int(key)] = self.stack[-1]

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, StandIn):
            raise Refused("its pickle is damaged (it appends to what is no list)")

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            fill(target, zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, StandIn):
            raise Refused("its pickle is damaged (it sets items of what is no dictionary)")

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > LONGEST:
            raise Refused("its pickle is damaged (a global without a proper name)")
        found = Name(module, name)
        if str(found) not in REBUILT and not found.harmless:
            raise Refused(f"it asks for {str(found)!r}, which no checkpoint of a known framework holds")
        self.stack.append(found)

    def call(self, what: Any, arguments: Any) -> None:
        if not isinstance(what, Name) or not isinstance(arguments, tuple):
            raise Refused("its pickle calls what it has made")
        rebuild = REBUILT.get(str(what))
        self.stack.append(rebuild(self, *arguments) if rebuild else self.stand_in(what))

    def stand_in(self, of: Any) -> StandIn:
        text = str(of) if isinstance(of, Name | str) else "an object"
        self.left[text] = self.left.get(text, 0) + 1
        return StandIn(text)

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Array):
            target.stored = self.contents(state)
        elif isinstance(target, Dtype):
            target.little = state[1] in ("<", "|", b"<", b"|")
        elif not isinstance(target, StandIn | dict):  # a state dict's own attributes are not needed
            raise Refused("its pickle is damaged (it sets the state of a plain value)")

    def contents(self, state: Any) -> Stored | None:
        """Of a numpy array; None where they are objects of Python."""
        _, shape, dtype, fortran, data = state
        if isinstance(data, list):
            self.stand_in("numpy.ndarray of objects")
            return None
        return array(shape, dtype, fortran is True, self.encode(data))

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Bytes; Python 2, and protocols before bytes had an operation, write them as text."""
        if isinstance(text, bytes):
            return text
        if not isinstance(text, str | bytearray) or encoding != "latin1":
            raise Refused("its pickle is damaged (numbers that are neither bytes nor text)")
        self.spend(len(text))
        return text.encode("latin1") if isinstance(text, str) else bytes(text)

    def ordered_dict(self, pairs: Any = ()) -> dict[Any, Any]:
        if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
            raise Refused("its pickle is damaged (a dictionary that is not made of pairs)")
        self.spend(len(pairs))
        found: dict[Any, Any] = {}
        fill(found, pairs)
        return found

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise Refused("its pickle copies the same content again and again")

    def persistent(self) -> None:
        found = storage(self.pop())
        if self.storages.setdefault(found.key, found) != found:
            raise Refused(f"it describes its numbers {found.key!r} in two ways")
        self.stack.append(found)

    def stop(self) -> None:
        self.result = self.pop()


def fill(target: dict[Any, Any], pairs: Iterable[Any]) -> None:
    """Entries whose keys are short to hash: that of a tuple of tuples could take for ever, and no weights are named so."""
    for key, value in pairs:
        if isinstance(key, str | bytes | float) or (isinstance(key, int) and abs(key) < 2**63):
            target[key] = value


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


REBUILT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": Machine.ordered_dict,
    "collections.defaultdict": lambda machine, *_: {},
    "torch._utils._rebuild_tensor": lambda machine, *given: tensor(*given),
    "torch._utils._rebuild_tensor_v2": lambda machine, *given: tensor(*given),
    "torch._utils._rebuild_tensor_v3": lambda machine, *given: tensor_of_dtype(*given),
    "torch._utils._rebuild_parameter": lambda machine, value, *_: value,
    "torch.Size": lambda machine, value: value,
    "numpy.dtype": lambda machine, *given: dtype_of(*given),
    "_codecs.encode": Machine.encode,
    # How older protocols write no bytes, name a method of a class, and make an object of one.
    "builtins.bytes": lambda machine: b"",
    "__builtin__.bytes": lambda machine: b"",
    "builtins.getattr": lambda machine, of, name: machine.stand_in(of),
    "__builtin__.getattr": lambda machine, of, name: machine.stand_in(of),
    "copyreg._reconstructor": lambda machine, of, *_: machine.stand_in(of),
    "copy_reg._reconstructor": lambda machine, of, *_: machine.stand_in(of),
}
for _core in ("core", "_core"):  # before and since numpy 2
    REBUILT[f"numpy.{_core}.multiarray._reconstruct"] = lambda machine, *_: Array()
    REBUILT[f"numpy.{_core}.numeric._frombuffer"] = lambda machine, data, dtype, shape, order: Array(
        array(shape, dtype, order == "F", machine.encode(data))
    )
"""The globals that have an answer, which is ours."""

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
