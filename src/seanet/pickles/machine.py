"""The stack of a pickle, and the few lines of our own that answer the globals it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

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

LONGEST = 200  # letters of a global's name
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
