"""By which names a server may be asked, by which sites' pages, and with which key.

A foreign site can point a name of its own at this machine and let a visitor's browser ask here: so neither a name that
nobody allowed nor a page from elsewhere is answered.
"""

from __future__ import annotations

import hmac
import os
import socket
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers

from engine.guard.addresses import on_space
from engine.guard.refusals import Refusal

_PORTS = {"http": 80, "https": 443}
_SPACE_HOSTS = ("*.hf.space",)
_SPACE_ORIGINS = ("huggingface.co",)  # shows the Space in a frame


class Names:
    """The names of a server.

    Args:
        hosts: Those by which it may be asked, besides addresses and this machine's own: `server.hosts`.
        host: Where it listens, if that is a name.
    """

    def __init__(self, hosts: str, host: str | None) -> None:
        given = tuple(name.strip().lower() for name in hosts.split(",") if name.strip())
        own = socket.gethostname().lower()
        named = (host, os.environ.get("GRADIO_SERVER_NAME"), os.environ.get("SPACE_HOST"))
        self._hosts = ("localhost", own, f"{own}.local", *given, *(name.lower() for name in named if name))
        self._origins = given
        if on_space():
            self._hosts, self._origins = (*self._hosts, *_SPACE_HOSTS), (*self._origins, *_SPACE_ORIGINS)

    def refusal(self, headers: Headers) -> str | None:
        """Why a request with these headers is not answered, in words; None if it is."""
        hosts, origin = headers.getlist("host"), headers.get("origin")
        name, port = _split_host(hosts[0]) if len(hosts) == 1 else ("", None)
        if len(hosts) != 1 or not self.known(hosts[0]):
            return "This page is not served under that name. Its host can allow the name with CITER_SERVER__HOSTS."
        if origin is not None and not self._may_ask(origin, name, port):
            return "Another site's page may not ask this one. Its host can allow the site with CITER_SERVER__HOSTS."
        return None

    def known(self, host: str) -> bool:
        """Whether a Host header, or what a proxy says of one, is an address or an allowed name."""
        name, _ = _split_host(host)
        return _is_address(name) or _matches(name, self._hosts)

    def _may_ask(self, origin: str, host: str, port: int | None) -> bool:
        """Whether a page from this origin is the page itself, under whatever port a proxy has it, or allowed."""
        try:
            asks = urlsplit(origin)
            name, its_port = (asks.hostname or "").lower(), asks.port
        except ValueError:
            return False
        default = _PORTS.get(asks.scheme)
        same = name == host and (its_port or default) == (port or default)
        return bool(name) and (same or _matches(name, self._origins))


def _split_host(text: str) -> tuple[str, int | None]:
    """Name and port of a Host header; an empty name where it is none."""
    try:
        parts = urlsplit(f"//{text}")
        return (parts.hostname or "").lower() if parts.netloc == text and "@" not in text else "", parts.port
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    """Whether it is an IP address: a foreign site can point a name of its own at this machine, and no address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns)


def check_key(headers: Headers, key: SecretStr | None) -> None:
    """Raises Refusal for a program's request without the server's key, where it has one."""
    if key is None:
        return
    kind, _, given = headers.get("authorization", "").partition(" ")
    wanted = key.get_secret_value().encode()
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip(" \t").encode("latin-1"), wanted):
        raise Refusal(401, "This server wants its key: send Authorization: Bearer and the key.")
