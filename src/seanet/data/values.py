"""What a value read from JSON is.  Python's true and false are whole numbers, JSON's are not."""

from typing import TypeGuard


def is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """NaN and infinity are; whole numbers too large for a float are not."""
    return isinstance(value, float) or (is_int(value) and abs(value) < 2**1000)


def is_unicode(text: str) -> bool:
    """JSON can spell halves of characters, which cannot be written to any file."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def kind(value: object) -> str:
    """How messages call it."""
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return kinds.get(type(value), f"the number {value!r}")
