"""The type checker of the tests: beartype, for which an int is also a float, as Python's annotations mean it."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
