"""Which requests are answered: those of a page that was opened here, under a name of this server."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from migician.errors import UserError

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Hosts:
    """The names of a server that listens on `host`; `others` are more names it is reached under.

    On a loopback address its names are the loopback names with its port. Elsewhere they are all numeric addresses and
    the machine's own name, with its port: another site's page cannot make a browser send one of those as its own name,
    as it can with a name that it owns.

    >>> hosts = Hosts("127.0.0.1", 7860, frozenset({"localhost:8000"}))
    >>> hosts.refusal([(b"host", b"localhost:8000"), (b"origin", b"http://localhost:8000")])
    ''
    >>> hosts.refusal([(b"host", b"a.example")])
    'a.example: not a name of this page; open http://127.0.0.1:7860, or start it with --allow-host a.example'
    """

    host: str
    port: int
    others: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for other in self.others:
            if not _HOST.fullmatch(other):
                raise UserError(
                    f"--allow-host {other}: not a name as a browser sends it; write NAME or NAME:PORT in lower "
                    "case, such as localhost:8000"
                )

    @property
    def address(self) -> str:
        """The address to open."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Why a request with these headers is refused, in one line; empty if it is answered.

        A name in X-Forwarded-Host is checked like the one in Host.
        """
        found: dict[bytes, list[str]] = {}
        for header, value in headers:
            found.setdefault(header.lower(), []).append(value.decode("latin-1").strip().lower())
        asked = found.get(b"host", [""]) + found.get(b"x-forwarded-host", [])
        for host in asked:
            if not self._is_own(host):
                if not _HOST.fullmatch(host[:200]):
                    return f"not a name of this page; open {self.address}"
                return f"{host}: not a name of this page; open {self.address}, or start it with --allow-host {host}"
        origins = {scheme + host for host in asked for scheme in ("http://", "https://")}
        if not origins.issuperset(found.get(b"origin", [])):
            return "requested by a page of another site"
        if not {"same-origin", "none"}.issuperset(found.get(b"sec-fetch-site", [])):
            return f"requested by a page of another site; to come here, type {self.address} into the browser"
        return ""

    def _is_own(self, asked: str) -> bool:
        if asked in self.others:
            return True
        parts = _HOST.fullmatch(asked)
        if parts is None or int(parts[2] or 80) != self.port:
            return False
        name, here = parts[1].strip("[]"), _ip(self.host)
        if name in ("127.0.0.1", "localhost", "::1", self.host.lower()):
            return True
        is_local = here.is_loopback if here else self.host.lower() == "localhost"
        return not is_local and (_ip(name) is not None or name == socket.gethostname().lower())


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name)
    return None
