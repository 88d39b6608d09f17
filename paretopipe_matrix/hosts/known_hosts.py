"""Host keys as known_hosts files hold them, with the line of each, so that a message can name it. Pure but for reading.

Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Host certificates (`@cert-authority`) are left out: paramiko has none.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MARKERS = ("@revoked", "@cert-authority")


@dataclass(frozen=True)
class KnownKey:
    """One key of one line. `marker` is empty, `@revoked` or `@cert-authority`."""

    file: Path
    line: int
    marker: str
    names: str
    key_type: str
    blob: bytes

    @property
    def where(self) -> str:
        """The line, as messages name it."""
        return f"{self.file}:{self.line}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it."""
        return fingerprint(self.blob)


def fingerprint(blob: bytes) -> str:
    """SHA-256 fingerprint of a public key in wire format."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def find_keys(files: Iterable[Path], name: str) -> list[KnownKey]:
    """All keys for a host name (`pi1`, or `[pi1]:2222` for another port), in the order of the files.

    Files that do not exist have none. Raises OSError for a file that cannot be read.
    """
    found: list[KnownKey] = []
    for file in files:
        if file.exists():
            text = file.read_text(encoding="utf-8", errors="replace")
            found += (key for key in _parse(text, file) if _matches(key.names, name))
    return found


def accepted(found: Iterable[KnownKey], key_type: str, blob: bytes) -> bool:
    """Whether one of the keys is this one, and none revokes it."""
    same = [key for key in found if (key.key_type, key.blob) == (key_type, blob)]
    return any(not key.marker for key in same) and not any(key.marker == "@revoked" for key in same)


def _parse(text: str, file: Path) -> Iterator[KnownKey]:
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0] in _MARKERS else ""
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except binascii.Error:
            continue  # no key: ssh passes over such a line, too
        yield KnownKey(file, number, marker, fields[0], fields[1], blob)


def _matches(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        return _hash_matches(names, name)
    matched = False
    for pattern in names.split(","):
        # Brackets belong to the name ([pi1]:2222) and are no wildcards here.
        if fnmatch.fnmatchcase(name.lower(), pattern.lstrip("!").lower().replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _hash_matches(names: str, name: str) -> bool:
    """HashKnownHosts: `|1|salt|HMAC-SHA1(salt, name)`, both in base64."""
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in names[3:].split("|"))
    except ValueError:  # not two parts, or not base64
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)
