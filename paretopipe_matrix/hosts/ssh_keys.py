"""Proving who is who: the server's host key against known_hosts, and our keys to the server. Never a password."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import PublicBlob, UnknownKeyType

from paretopipe_matrix.hosts.known_hosts import KnownKey, accepted, find_keys
from paretopipe_matrix.hosts.ssh_hops import Hop
from paretopipe_matrix.testbed import CellError


def known_keys(host: str, hop: Hop) -> list[KnownKey]:
    """The keys that known_hosts files have for a server. Raises CellError for a file that cannot be read."""
    try:
        return find_keys(hop.known_hosts, hop.known_as)
    except OSError as error:
        raise CellError("host-key", f"cannot read {error.filename}: {error.strerror}", host, "mend the file") from error


def prefer_known_types(transport: paramiko.Transport, known: list[KnownKey]) -> None:
    """Ask first for host keys of the types that known_hosts has, or a server with several might offer another one."""
    types = {name for key in known for name in _algorithms(key.key_type)}
    options = transport.get_security_options()
    options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in types))


def _algorithms(key_type: str) -> tuple[str, ...]:
    # An RSA key signs with SHA-2 nowadays (RFC 8332), under other names than its own.
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


def check_host_key(host: str, hop: Hop, key: paramiko.PKey, known: list[KnownKey], *, jumped: bool) -> None:
    """Raise CellError (`host-key`) unless known_hosts has this very key for the server.

    `jumped`: the server lies behind a jump host, where ssh-keyscan does not reach.
    """
    name, blob = key.get_name(), key.asbytes()
    if accepted(known, name, blob):
        return
    offered = f"{name} {key.fingerprint}"
    revoked = [one for one in known if one.marker == "@revoked" and one.blob == blob]
    if revoked:
        raise CellError("host-key", f"{hop} offers a key that {revoked[0].where} revokes: {offered}", host, _DISTRUST)
    usual = [one for one in known if not one.marker]
    if usual:
        was = next((one for one in usual if one.key_type == name), usual[0])
        raise CellError(
            "host-key",
            f"the host key of {hop} HAS CHANGED: {was.where} has {was.key_type} {was.fingerprint}, it offers {offered}",
            host,
            f"{_DISTRUST}; only then replace the line (ssh-keygen -R '{hop.known_as}' -f {was.file})",
        )
    look = f"connect once by hand (ssh -p {hop.port} {hop.user}@{hop.address} through its jump host)"
    if not jumped:
        look = f"fetch it (ssh-keyscan -p {hop.port} {hop.address})"
    files = ", ".join(str(file) for file in hop.known_hosts)
    raise CellError(
        "host-key",
        f"the host key of {hop} is not known: {offered} is not in {files or 'any known_hosts file'}",
        host,
        f"{look}, compare the fingerprint with the host's own (there: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), "
        f"then keep it in {hop.known_hosts[0] if hop.known_hosts else '~/.ssh/known_hosts'}",
    )


_DISTRUST = "the host was installed anew, or somebody is in between: find out which"


@dataclass
class _Tried:
    """What was offered to a server, and what could not be: for the message."""

    keys: list[str] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)


def authenticate(host: str, hop: Hop, transport: paramiko.Transport) -> None:
    """Log in with the inventory's key files, the ssh-agent's keys and ssh's usual files, in this order.

    Raises CellError (`authentication`) naming the keys that were tried.
    """
    tried = _Tried()
    try:
        agent = paramiko.Agent()
    except paramiko.SSHException as error:
        raise CellError("authentication", f"the ssh-agent: {error}", host, "look at SSH_AUTH_SOCK") from error
    with contextlib.closing(agent):
        for name, key in _keys(host, hop, agent, tried):
            tried.keys.append(name)
            try:
                more = transport.auth_publickey(hop.user, key)
            except paramiko.BadAuthenticationType as error:
                raise _refused(host, hop, f"allows only {', '.join(error.allowed_types)}, no keys") from error
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    break  # too many keys for this server (MaxAuthTries)
                continue
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise _refused(host, hop, f"broke off: {error}") from error
            if more:
                raise _refused(host, hop, f"wants more than a key: {', '.join(more)}")
            return
    raise _refused(host, hop, f"takes none of the keys that were tried: {', '.join(tried.keys) or 'none found'}", tried)


def _refused(host: str, hop: Hop, what: str, tried: _Tried | None = None) -> CellError:
    remedy = f"put your public key into ~{hop.user}/.ssh/authorized_keys there, or name another user or key"
    if tried and tried.locked:
        remedy = f"{', '.join(map(str, tried.locked))} has a passphrase: ssh-add it; or {remedy}"
    return CellError("authentication", f"{hop} {what}", host, remedy)


def _keys(host: str, hop: Hop, agent: paramiko.Agent, tried: _Tried) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys to offer, with their names."""
    if hop.keys_named:
        yield from _file_keys(host, hop, tried)
    named = {blob for file in hop.key_files for blob in _public_blob(file)}
    for key in agent.get_keys() if hop.agent_keys != "none" else ():
        if hop.agent_keys == "all" or key.asbytes() in named:
            yield f"ssh-agent's {key.comment or key.fingerprint}", key
    if not hop.keys_named:
        yield from _file_keys(host, hop, tried)


def _file_keys(host: str, hop: Hop, tried: _Tried) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys from files. Those that the inventory names must be there; of ssh's usual ones, those that are."""
    for file in hop.key_files:
        if not file.exists() and not hop.keys_named:
            continue
        try:
            yield str(file), paramiko.PKey.from_path(file)
        except (TypeError, paramiko.PasswordRequiredException):
            # How cryptography and paramiko say that there is a passphrase: the ssh-agent may have the key.
            tried.locked.append(file)
        except OSError as error:
            raise CellError(
                "authentication", f"cannot read its key file {file}: {error.strerror}", host, "name one that is there"
            ) from error
        except (ValueError, UnsupportedAlgorithm, UnknownKeyType, paramiko.SSHException) as error:
            if hop.keys_named:
                raise CellError(
                    "authentication", f"{file} is not a private key that can be used", host, "make one with ssh-keygen"
                ) from error


def _public_blob(file: Path) -> Iterator[bytes]:
    """The public half beside a key file, in wire format, where there is one."""
    with contextlib.suppress(OSError, ValueError, paramiko.SSHException):
        yield PublicBlob.from_file(os.fspath(file) + ".pub").key_blob
