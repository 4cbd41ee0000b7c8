"""What can go wrong in a way that is not a bug of ours: one readable line each."""

from __future__ import annotations

from paddlefcn.terminal import plain


class UserError(ValueError):
    """A mistake a user can mend. Its message is one line: where, got, expected, fix. Exit code 2."""

    def __init__(self, message: str = "") -> None:
        super().__init__(plain(str(message)))  # names in it come from outside


class ConfigError(UserError):
    """A config file or an option that cannot be right."""


class DataError(UserError):
    """An image, a mask or a list file that cannot be used. Names the file."""


class WeightsError(UserError):
    """A weight file that cannot be read or does not fit the network."""


class OutputError(UserError):
    """A place that cannot be written to, or must not be overwritten."""


class RunError(RuntimeError):
    """A run stopped by its own trouble: loss not finite, disk full, a worker killed. Exit code 1."""

    def __init__(self, message: str = "") -> None:
        super().__init__(plain(str(message)))
