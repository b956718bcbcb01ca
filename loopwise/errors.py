"""The errors that a user can act on. Each message says what is wrong, where, and what to do."""


class LoopwiseError(Exception):
    """Base of all errors that Loopwise raises on purpose.

    `exit_code` is what the command line leaves with: 2 for usage, 1 for failure.
    """

    exit_code = 1


class UsageError(LoopwiseError):
    """What was asked for cannot be done: no such file, column, option or combination."""

    exit_code = 2


class InputError(UsageError):
    """The input is not what it should be: not a CSV, empty, without a text column."""


class ModelError(LoopwiseError):
    """A model folder is missing, damaged, changed or from another format version."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message names the command that installs it."""
