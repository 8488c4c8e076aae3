"""What boto3 raises, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from offline_kit.common.errors import AccessDenied, KitError, NetworkError, NotFound, SpecError

_DENIED = frozenset(
    ("403", "401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
     "TokenRefreshRequired", "AllAccessDisabled", "AccountProblem")
)  # fmt: skip
_MISSING = frozenset(("404", "NoSuchBucket", "NoSuchKey"))
_LOGIN = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_RIGHTS = "check the AWS_* variables; it needs s3:ListBucket, GetObject, PutObject, DeleteObject and those of multipart uploads"


def is_missing(error: Exception, code: str) -> bool:
    """Whether the store says that there is no such object: ``code`` is how the request at hand is told so."""
    response = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == code


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turns what boto3 and botocore raise into errors of this program."""
    try:
        yield
    except KitError:
        raise
    except Exception as error:
        translated = _translate(error, where)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception, where: str) -> KitError | None:
    from botocore import exceptions  # noqa: PLC0415  of the optional extra: whoever comes here has it

    said = _one_line(str(error))
    if isinstance(error, RecursionError):  # botocore follows "another region" for ever
        remedy = "check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
        return NetworkError("sends every request on to another region", where=where, remedy=remedy)
    if isinstance(error, exceptions.ClientError):
        return _refused(error.response, where)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound)):
        return AccessDenied(said.rstrip("."), where=where, remedy=_LOGIN)
    # Before anything that asks for OSError: some of these are one, too.
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)):
        return NetworkError(said, where=where, remedy="check AWS_ENDPOINT_URL and the network; the next run goes on")
    if isinstance(error, (exceptions.BotoCoreError, ValueError)):
        return SpecError(f"boto3 says: {said}", where=where, remedy="check the address and the AWS_* variables")
    return None


def _refused(response: object, where: str) -> KitError:
    said = response.get("Error", {}) if isinstance(response, dict) else {}
    code, message = _one_line(str(said.get("Code", "")))[:50], _one_line(str(said.get("Message", "")))[:200]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?") if isinstance(response, dict) else "?"
    words = f"the store refuses it: {code} {message}".rstrip() if code else f"answers HTTP {status} and no error of a store"
    if not code:
        return NetworkError(words, where=where, remedy="check AWS_ENDPOINT_URL: is it the address of the store itself?")
    if code in _DENIED:
        return AccessDenied(words, where=where, remedy=_RIGHTS)
    if code in _MISSING:
        return NotFound(f"there is no such bucket ({code})", where=where, remedy="make it, or correct the name")
    return NetworkError(words, where=where, remedy="the next run goes on; ask whoever runs the store")


def _one_line(text: str) -> str:
    """A store's own words without what controls a terminal or begins a line."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
