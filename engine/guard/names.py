"""Checks the name under which a server is asked, the site whose page asks, and the key.

A foreign site can point a name of its own at this machine and have a visitor's browser ask here. So requests under
other names than the allowed ones are refused, and those from other sites' pages.
"""

from __future__ import annotations

import hmac
import os
import re
import socket
from fnmatch import fnmatchcase
from ipaddress import ip_address

from pydantic import SecretStr
from starlette.datastructures import Headers

from engine.guard.addresses import on_space
from engine.guard.refusals import Refusal

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:/@\[\]\s]+))(?::\d+)?")
_SPACE_HOSTS = ("*.hf.space",)
_SPACE_ORIGINS = ("huggingface.co",)  # shows the Space in a frame


class Names:
    """The names of a server.

    Args:
        hosts: Names by which it may be asked, beside addresses and this machine's own: `server.hosts`.
        host: Where it listens, if that is a name.
    """

    def __init__(self, hosts: str, host: str | None) -> None:
        given = tuple(name.strip().lower() for name in hosts.split(",") if name.strip())
        own = socket.gethostname().lower()
        named = (host, os.environ.get("SPACE_HOST"))
        self._hosts = ("localhost", own, f"{own}.local", *given, *(name.lower() for name in named if name))
        self._origins = given
        if on_space():
            self._hosts, self._origins = (*self._hosts, *_SPACE_HOSTS), (*given, *_SPACE_ORIGINS)

    def check(self, headers: Headers) -> None:
        """Raises Refusal for a request under a foreign name, or from another site's page."""
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if len(hosts) != 1 or not self.known(hosts[0]):
            said = "This page is not served under that name. Its host can allow the name with CITER_SERVER__HOSTS."
            raise Refusal(403, said)
        asking = "" if origin is None else origin.partition("://")[2]
        if origin is not None and _bare(asking) != _bare(hosts[0]) and not _matches(_name(asking), self._origins):
            said = "Another site's page may not ask this one. Its host can allow the site with CITER_SERVER__HOSTS."
            raise Refusal(403, said)

    def known(self, host: str) -> bool:
        """Whether a Host header, or what a proxy says of one, is an address or an allowed name."""
        name = _name(host)
        try:
            ip_address(name)
        except ValueError:
            return _matches(name, self._hosts)
        return True  # no foreign site can point an address at this machine


def _name(host: str) -> str:
    """The name in a Host header; empty where it is none."""
    found = _HOST.fullmatch(host.lower())
    return "" if found is None else found[1] or found[2]


def _bare(host: str) -> str:
    return host.lower().removesuffix(":443").removesuffix(":80")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns)


def check_key(headers: Headers, key: SecretStr | None) -> None:
    """Raises Refusal for a program's request without the server's key, where it has one."""
    if key is None:
        return
    kind, _, given = headers.get("authorization", "").partition(" ")
    wanted = key.get_secret_value().encode()
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip(" \t").encode("latin-1"), wanted):
        raise Refusal(401, "This server wants its key: send Authorization: Bearer and the key.")
