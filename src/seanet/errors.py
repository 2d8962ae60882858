"""Mistakes that a user can mend: one sentence that names the file and the id, what was expected and what to do."""


class UserError(ValueError):
    """The command line prints its message without a traceback and exits with 2.

    Parts of the message that programs want are attributes too: ``file``, ``image_id``, ``annotation_id``, ``field``, ``value``.
    """

    def __init__(self, message: str, **facts: object):
        super().__init__(message)
        self.file = facts.get("file")
        self.image_id = facts.get("image_id")
        self.annotation_id = facts.get("annotation_id")
        self.field = facts.get("field")
        self.value = facts.get("value")


class ImageError(UserError):
    """An image file that cannot be read."""


class AnnotationError(UserError):
    """An annotation file that cannot be used."""


class ConfigError(UserError):
    """A recipe, a setting or an override that does not exist or has a wrong value."""


class CheckpointError(UserError):
    """A file that is no checkpoint of ours, or the checkpoint of another model."""


class DivergenceError(UserError):
    """A loss that is no longer finite."""


class OutOfMemory(UserError):
    """A step that does not fit into the memory of its device."""


class WorkerError(UserError):
    """A process that reads images and dies or hangs again and again at the same ones."""


class MissingExtra(UserError):
    """An optional dependency that the wanted function needs."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs {package}: install it with  pip install 'seanet[{extra}]'")
