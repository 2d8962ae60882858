"""An annotation file read entry by entry is what json makes of the whole of it, wherever chunks end, and as strictly."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seanet.data import entries
from seanet.data.entries import PARTS, open_lists, read_annotations, read_lists
from seanet.data.repairs import Findings
from seanet.errors import AnnotationError

TEXT = st.text(max_size=8) | st.sampled_from(["[", "}", '"', "\\", '\\"', "é€😀", "\n"])
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
LISTS = st.lists(VALUE, max_size=5)
OTHERS = st.dictionaries(TEXT.filter(lambda name: name not in PARTS), VALUE, max_size=3)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("entries") / "data.json"


@st.composite
def files(draw: st.DrawFn) -> tuple[dict, str]:
    """Content and one of its spellings."""
    content = draw(OTHERS) | {part: draw(LISTS) for part in PARTS}
    content["categories"].append({})
    names = draw(st.permutations(list(content)))
    content = {name: content[name] for name in names}
    indent, ascii_only = draw(st.sampled_from([None, 0, 2])), draw(st.booleans())
    return content, json.dumps(content, indent=indent, ensure_ascii=ascii_only)


@settings(max_examples=150, deadline=None)
@given(files(), st.integers(1, 70))
def test_lists_are_those_of_json(file, spelled, chunk):
    content, text = spelled
    file.write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "CHUNK", chunk)
        assert read_lists(Findings(file)) == {part: content[part] for part in PARTS}


PLAIN = {
    "info": {"a": [1]},
    "images": [{"id": 1}, 2.5],
    "annotations": [[[1, -2]], "é]"],
    "categories": [{"name": "x"}],
}


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
@pytest.mark.parametrize("indent", [None, 1])
def test_every_cut_is_told_with_its_place(file, monkeypatch, indent, chunk):
    """Line and column are those of json, except that nothing behind an opened list is looked at before its end."""
    monkeypatch.setattr(entries, "CHUNK", chunk)
    raw = json.dumps(PLAIN, indent=indent, ensure_ascii=False).encode()
    for length in range(len(raw)):
        file.write_bytes(raw[:length])
        with pytest.raises(AnnotationError) as caught:
            read_lists(Findings(file))
        assert caught.value.file == file
        assert str(caught.value).startswith(f"{file}: is not ")


@pytest.mark.parametrize("chunk", [1, 5, 2**20])
def test_places_of_errors_are_those_of_json(file, monkeypatch, chunk):
    monkeypatch.setattr(entries, "CHUNK", chunk)
    text = json.dumps(PLAIN, indent=1, ensure_ascii=False)
    for position in (text.index("2.5"), text.index('"id"') + 4, text.index("-2"), text.index("é") + 2, len(text) - 1):
        broken = text[:position] + "?" + text[position + 1 :]
        with pytest.raises(json.JSONDecodeError) as wanted:
            json.loads(broken)
        file.write_text(broken, encoding="utf-8", newline="")
        with pytest.raises(AnnotationError, match=f"line {wanted.value.lineno}, column {wanted.value.colno}: "):
            read_lists(Findings(file))


def test_bytes_that_are_no_text_are_told_with_their_place(file, monkeypatch):
    monkeypatch.setattr(entries, "CHUNK", 3)
    raw = json.dumps(PLAIN, indent=1, ensure_ascii=False).encode()
    for position in (40, len(raw) // 2, len(raw) - 3):
        file.write_bytes(raw[:position] + b"\xff" + raw[position + 1 :])
        line = raw.count(b"\n", 0, position) + 1
        with pytest.raises(AnnotationError, match=rf"not UTF-8 text \(line {line}, byte {position}\)"):
            read_lists(Findings(file))


REFUSED = {
    "nothing": ("", "Expecting value in line 1, column 1"),
    "text behind": (json.dumps(PLAIN) + " {}", "Extra data"),
    "comma behind": (json.dumps(PLAIN)[:-1] + ",}", "Expecting property name"),
    "comma in a list": (json.dumps(PLAIN).replace("2.5]", "2.5,]"), "Expecting value"),
    "list twice": (json.dumps(PLAIN)[:-1] + ', "images": []}', "two lists 'images'"),
    "number of ten thousand digits": (
        '{"images": [' + "1" * 10_000 + '], "annotations": [], "categories": [1]}',
        "4300",
    ),
    "lists in lists without end": ('{"images": ' + "[" * 100_000, "recursion"),
    "objects in objects without end": ('{"x": ' + '{"x":' * 100_000, "recursion"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_data_set_is_refused(file, text, words):
    file.write_text(text)
    with pytest.raises(AnnotationError, match=words) as caught:
        read_lists(Findings(file))
    assert caught.value.file == file


def test_entries_are_decoded_one_by_one(file, monkeypatch):
    """The first is there before the text behind it was looked at; lists can be read again."""
    file.write_text(json.dumps({"images": [], "annotations": [{"id": i} for i in range(1000)], "categories": [1]}))
    monkeypatch.setattr(entries, "CHUNK", 100)
    with open_lists(Findings(file)) as lists:
        found = lists.entries("annotations")
        assert next(found) == {"id": 0}
        assert lists._window.first.offset < 300
        assert list(lists.entries("categories")) == [1]
        assert [entry["id"] for entry in lists.entries("annotations")] == list(range(1000))


def test_annotations_keep_the_places_that_they_have_in_their_list(tmp_path):
    file = tmp_path / "data.json"
    content = {"annotations": [{"id": 5}, "none", {"id": 3}], "categories": [{"id": 1}], "images": [{"id": 1}]}
    file.write_text(json.dumps(content), encoding="utf-8-sig")  # with a mark of its byte order
    assert list(read_annotations(file)) == [(0, {"id": 5}), (2, {"id": 3})]
