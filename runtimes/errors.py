"""The errors that reach a user: each names the thing, the reason and the fix."""


class AdaptiveVideoError(Exception):
    """Base of every error this project raises for a user's mistake or a broken input.

    Printed as ``thing: reason; fix``; command lines show that one line and no traceback.
    """

    def __init__(self, thing: object, reason: str, fix: str) -> None:
        self.thing = str(thing)
        self.reason = reason
        self.fix = fix
        super().__init__(f"{self.thing}: {reason}; {fix}")

    def __reduce__(self) -> tuple[type["AdaptiveVideoError"], tuple[str, str, str]]:
        return (type(self), (self.thing, self.reason, self.fix))


class BundleError(AdaptiveVideoError):
    """A bundle is missing, altered, of an unknown schema, or not made for what is asked of it."""


class NotABundleError(BundleError):
    """What was named is no bundle: it does not exist, or is something else."""


class EngineError(AdaptiveVideoError):
    """A runtime cannot open or run a graph as asked, e.g. the accelerator is missing."""


class ArgumentError(AdaptiveVideoError):
    """An argument or a flag has a value that it cannot have, or does not go with another."""


class MissingPackageError(AdaptiveVideoError):
    """An optional dependency is not installed; the fix names the extra that brings it."""


class OutputError(AdaptiveVideoError):
    """A file cannot be written."""
