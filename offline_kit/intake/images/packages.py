"""Packages as the databases of an image name them: Debian's, Alpine's, Red Hat's, Python's.

Rules: pure; each reader takes the bytes of one file and gives records, nothing for what it cannot read; licences are as the
package says, told apart later (``licences``).
"""

from __future__ import annotations

import email.parser
import re
from collections.abc import Iterator

from offline_kit.spec.image_contents import Package

_COPYRIGHT_LICENCE = re.compile(r"^License:[ \t]*(\S[^\n]*)$", re.MULTILINE | re.IGNORECASE)
_CLASSIFIER = "License :: "


def read_dpkg(data: bytes) -> list[Package]:
    """``var/lib/dpkg/status``, or one file of ``status.d`` (distroless): what is installed."""
    found = []
    for fields in _paragraphs(data.decode("utf-8", "replace")):
        # Files of status.d have no Status: they are there because they are installed.
        state = fields.get("Status", "install ok installed").split()
        if "Package" in fields and "Version" in fields and state[-1] in ("installed", "triggers-pending", "triggers-awaited"):
            package = Package(kind="deb", name=fields["Package"], version=fields["Version"])
            package["architecture"] = fields.get("Architecture", "")
            if source := fields.get("Source", "").split(" ")[0]:
                package["source"] = source
            found.append(package)
    return found


def read_copyright(data: bytes) -> list[str]:
    """The licences that a Debian ``copyright`` file names, where it has the machine-readable form."""
    text = data.decode("utf-8", "replace")
    if "format:" not in text[:2000].lower():
        return []
    return sorted({name.strip() for name in _COPYRIGHT_LICENCE.findall(text)})


def read_apk(data: bytes) -> list[Package]:
    """``lib/apk/db/installed``."""
    found = []
    for block in data.decode("utf-8", "replace").split("\n\n"):
        fields = {line[0]: line[2:] for line in block.split("\n") if line[1:2] == ":" and line[0] in "PVALo"}
        if "P" in fields and "V" in fields:
            package = Package(kind="apk", name=fields["P"], version=fields["V"], architecture=fields.get("A", ""))
            package["licences"] = [fields["L"]] if fields.get("L") else []
            if fields.get("o", fields["P"]) != fields["P"]:
                package["source"] = fields["o"]
            found.append(package)
    return found


def read_python(data: bytes) -> list[Package]:
    """METADATA of a ``dist-info``, or PKG-INFO."""
    head = data.decode("utf-8", "replace").split("\n\n", 1)[0]
    fields = email.parser.HeaderParser().parsestr(head)
    name, version = fields.get("Name"), fields.get("Version")
    if not name or not version:
        return []
    package = Package(kind="pypi", name=re.sub(r"[-_.]+", "-", str(name)).lower(), version=str(version))
    package["licences"] = _python_licences(fields)
    package["requires"] = [str(item) for item in fields.get_all("Requires-Dist", [])]
    return [package]


def _python_licences(fields: email.message.Message) -> list[str]:
    """The expression, else the licence where it is a name and no text, else what the classifiers say."""
    if expression := fields.get("License-Expression"):
        return [str(expression)]
    text = str(fields.get("License") or "").strip()
    if text and "\n" not in text and len(text) < 100 and text.upper() != "UNKNOWN":
        return [text]
    classifiers = [str(item) for item in fields.get_all("Classifier", []) if str(item).startswith(_CLASSIFIER)]
    names = [item.rpartition(" :: ")[2] for item in classifiers]
    return sorted({name for name in names if name not in ("OSI Approved", "Other/Proprietary License")})


def read_os_release(data: bytes) -> dict[str, str]:
    """ID and VERSION_ID of the distribution."""
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").split("\n"))
    return {key: value.strip("\"'") for key, _, value in pairs if key in ("ID", "VERSION_ID")}


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Debian's format: fields of one line; what goes on in further lines is not needed."""
    for block in re.split(r"\n\s*\n", text):
        yield {
            name: value.strip()
            for name, mark, value in (line.partition(":") for line in block.split("\n"))
            if mark and not name[:1].isspace()
        }
