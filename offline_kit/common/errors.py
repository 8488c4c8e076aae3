"""Every error that a user can meet.

Rules: each class owns its exit code; an instance says what happened, where, and what to do next; nothing below ``cli/``
prints or exits. ``docs/design.md`` has the table of codes; ``tests/unit/test_exit_codes.py`` holds all that tell them together.
"""

from __future__ import annotations

from typing import ClassVar


class KitError(Exception):
    """What went wrong in one line, and what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        """``what`` happened; ``where``: file, line, URL or field; ``remedy``: the next thing to do."""
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} -> {self.remedy}" if self.remedy else text


class SpecError(KitError):
    """A manifest, lock, models.json or vllm_config.yaml that cannot be used."""

    exit_code = 3


class LockStale(KitError):
    """``--locked`` was asked for and the lock is missing or does not belong to the manifest."""

    exit_code = 4


class NotFound(KitError):
    """The source has no such repository, revision, tag or file."""

    exit_code = 5


class AccessDenied(KitError):
    """The source wants credentials, or refuses these."""

    exit_code = 6


class NetworkError(KitError):
    """The source could not be reached, or kept failing after the retries."""

    exit_code = 7


class DigestMismatch(KitError):
    """Bytes are not the bytes that the manifest, the lock or the source promised."""

    exit_code = 8


class DiskError(KitError):
    """No space, no permission, or an unreadable local file."""

    exit_code = 9


class DockerError(KitError):
    """No Docker engine answers, or it refused what was asked."""

    exit_code = 10


class Unchanged(KitError):
    """A release was asked for if anything changed, and nothing did."""

    exit_code = 11


class Busy(KitError):
    """Another run makes a release in this folder."""

    exit_code = 12


class CommandFailed(KitError):
    """The release is made and listed; the command that was to follow it failed."""

    exit_code = 13


class BundleDamaged(KitError):
    """A bundle or kit was read and is not what it should be."""

    exit_code = 20


class BundleUnreadable(KitError):
    """There is no bundle to read: no such file, or something else than a bundle."""

    exit_code = 21


class NotTrusted(KitError):
    """A bundle or kit is not signed by the keys that are demanded, or is not the one that was expected."""

    exit_code = 22


class PolicyRefused(KitError):
    """What a policy forbids, or a scan found dangerous."""

    exit_code = 23


class ScanFailed(KitError):
    """A scanner that the manifest demands is missing, failed or took too long."""

    exit_code = 24


class RehearsalFailed(KitError):
    """A model would not be served as it is configured, or something asked for a network."""

    exit_code = 25


class Interrupted(KitError):
    """The user stopped the run."""

    exit_code = 130
