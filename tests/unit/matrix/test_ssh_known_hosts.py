"""known_hosts files: which line holds a host's key, and whether a key may be trusted."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from paretopipe_matrix.hosts.known_hosts import accepted, find_keys, fingerprint

KEY, OTHER = b"\0\0\0\x0bssh-ed25519 key", b"\0\0\0\x0bssh-ed25519 other"


def line(names: str, blob: bytes = KEY, key_type: str = "ssh-ed25519") -> str:
    return f"{names} {key_type} {base64.b64encode(blob).decode()} a comment\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(*lines: str) -> list[Path]:
        (tmp_path / "known_hosts").write_text("".join(lines))
        return [tmp_path / "missing", tmp_path / "known_hosts"]

    return write


@pytest.mark.parametrize(
    ("names", "name", "matches"),
    [
        ("pi1,10.0.0.1", "10.0.0.1", True),
        ("pi1", "pi10", False),
        ("PI1", "pi1", True),
        ("*.local,!secret.local", "pi1.local", True),
        ("*.local,!secret.local", "secret.local", False),
        ("pi?", "pi1", True),
        ("[pi1]:2222", "[pi1]:2222", True),
        ("[pi1]:2222", "p", False),
        ("pi1", "[pi1]:2222", False),
        ("[*]:2222", "[pi1]:2222", True),
        ("|1|not base64|x", "pi1", False),
        ("|1|only", "pi1", False),
    ],
)
def test_names(write, names: str, name: str, matches: bool) -> None:
    assert bool(find_keys(write(line(names)), name)) is matches


def test_hashed_names_as_ssh_keygen_makes_them(tmp_path: Path) -> None:
    for program in (
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"],
        ["sh", "-c", f"echo '[pi1]:2222' $(cat {tmp_path}/key.pub) > {tmp_path}/known_hosts"],
        ["ssh-keygen", "-H", "-f", tmp_path / "known_hosts"],
    ):
        subprocess.run(program, check=True, capture_output=True, timeout=20)
    (key,) = find_keys([tmp_path / "known_hosts"], "[pi1]:2222")
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key"], capture_output=True, text=True, check=True).stdout
    assert key.fingerprint == shown.split()[1]
    assert not find_keys([tmp_path / "known_hosts"], "pi1")


def test_the_line_is_known_and_other_lines_do_no_harm(write) -> None:
    files = write("# comment\n", "\n", "too short\n", "pi1 ssh-ed25519 no-base64!\n", line("pi1"))
    (key,) = find_keys(files, "pi1")
    assert (key.where, key.blob, key.fingerprint) == (f"{files[1]}:5", KEY, fingerprint(KEY))


def test_any_key_of_the_host_will_do_unless_it_is_revoked(write) -> None:
    found = find_keys(write(line("pi1", OTHER), line("pi1")), "pi1")
    assert accepted(found, "ssh-ed25519", KEY)
    assert accepted(found, "ssh-ed25519", OTHER)
    assert not accepted(found, "ssh-rsa", KEY)
    assert not accepted(found, "ssh-ed25519", KEY + b"x")
    revoked = find_keys(write(line("pi1"), line("@revoked *")), "pi1")
    assert not accepted(revoked, "ssh-ed25519", KEY)
    authority = find_keys(write(line("@cert-authority pi1")), "pi1")
    assert not accepted(authority, "ssh-ed25519", KEY)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        find_keys([tmp_path], "pi1")
