"""The address at which the studio listens, its host names there, and the process that holds a taken port."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path

from fromnoise.errors import InputError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address, which no other machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at a host and port; port 0 takes a free one.

    Raises:
        InputError: if the host is not this machine's, or the port is taken or out of reach.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise InputError(f"--host {host}: there is no such address; leave it out for this machine alone") from None
    family, kind, protocol, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # makes a port that was just closed free at once; elsewhere it would take a port in use
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise InputError(_why_not(error, host, port)) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    other = f"--port {port + 1}" if port < 65535 else "--port 0"
    if error.errno == errno.EADDRINUSE:
        who = holder(port)
        return f"port {port} is taken{f' by {who}' if who else ''}: choose another, such as {other}"
    if error.errno == errno.EACCES:
        return f"port {port} is for the system's own services: choose another, such as --port 8417"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is not an address of this machine; leave it out for this machine alone"
    return f"the studio cannot listen at {host} port {port}: {error.strerror or error}; choose {other}"


def holder(port: int) -> str | None:
    """Return the process that listens at a port, as "python3 server.py (process 42)"; None where it is not known."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(entry) in inodes for entry in (process / "fd").iterdir()):
                return f"{_command(process)} (process {process.name})"
        except OSError:  # another user's process, or one that has ended
            continue
    return None


def _listening(table: str, port: int) -> list[str]:
    """Return the inodes of the sockets that listen at a port, from /proc/net."""
    try:
        rows = [line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]]
    except OSError:
        return []
    listening = "0A"
    return [row[9] for row in rows if row[3] == listening and int(row[1].rpartition(":")[2], 16) == port]


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    line = " ".join([Path(words[0]).name, *words[1:]]).strip() or (process / "comm").read_text().strip()
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= 60 else f"{line[:57]}..."


def hosts(host: str, port: int) -> list[str]:
    """Return the values of the Host header that the studio accepts; the first is the one for its link."""
    names = [host] if not _is_any(host) else []
    if _is_any(host):
        names += _own_names()
    if is_loopback(host) or _is_any(host):
        names += [name for name in _LOOPBACK if name not in names]
    return [_with_port(name, port) for name in names]


def _with_port(name: str, port: int) -> str:
    name = f"[{name}]" if ":" in name else name
    return name if port == 80 else f"{name}:{port}"


def _is_any(host: str) -> bool:
    """Return whether a host means every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _own_names() -> list[str]:
    """Return the addresses and the name by which other machines reach this one."""
    names: list[str] = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only selects the address of outgoing packets
        names.append(probe.getsockname()[0])
    name = socket.gethostname()
    with suppress(OSError):
        names += [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    names.append(name)
    return [name for name in dict.fromkeys(names) if "%" not in name and not is_loopback(name)]
