"""Refuses requests that pages of other sites make in a visitor's browser.

Any page that is open in a browser can make the browser send requests to a
server on the loopback address, and a site may point a host name of its own to
that server (DNS rebinding). Three headers, which a page cannot set, reveal
both: Host, Origin and Sec-Fetch-Site.
"""

import ipaddress
import re

from starlette import exceptions, requests

from data_prep.base import options

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_PLACE = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_MOST_SHOWN = 80  # letters of a header


class Guard:
  """Refuses HTTP requests that pages of other sites make.

  Args:
    host: the name or address that the server is bound to.
    allowed_hosts: further host names and addresses, separated by commas, under
      which a proxy or another machine reaches the server.

  Raises:
    options.InputError: for an allowed host with a scheme, a port or a path.
  """

  def __init__(self, host: str, allowed_hosts: str) -> None:
    entries = filter(None, map(str.strip, allowed_hosts.split(",")))
    self._allowed = frozenset(map(_checked_name, entries))
    self._names = self._allowed | {"localhost", _name(host)}

  def check(self, request: requests.Request) -> None:
    """Raises HTTPException for a request that another site may have made.

    A browser that follows another site's link to the page "/" is not refused:
    the page contains no data.

    Args:
      request: its headers are read, but not its body.

    Raises:
      exceptions.HTTPException: 421 for a foreign Host, 403 for another site.
    """
    host = request.headers.get("host")
    # HTTP/1.0 may leave Host out; browsers never do.
    if host is not None and not self._is_ours(host, request):
      raise exceptions.HTTPException(
        421,
        "expected Host to be a name of this server; got "
        f"{host[:_MOST_SHOWN]}: start it with --allowed_hosts=NAME",
      )
    if _follows_link(request):
      return
    foreign = [
      f"a {site} page"
      for site in request.headers.getlist("sec-fetch-site")
      if site not in ("same-origin", "none")
    ]
    foreign += [
      origin
      for origin in request.headers.getlist("origin")
      if not self._is_own(origin, host or "")
    ]
    if foreign:
      raise exceptions.HTTPException(
        403,
        "expected a request of this server's page; got one of "
        f"{foreign[0][:_MOST_SHOWN]}",
      )

  def _is_ours(self, host: str, request: requests.Request) -> bool:
    """Returns whether a Host header names this server, with any port.

    The header may name one of the server's names, a loopback address, or the
    address at which the request arrived.

    Args:
      host: the Host header.
      request: the request.
    """
    name = _name_of_place(host)
    address = _address(name)
    if name in self._names or (address and address.is_loopback):
      return True
    # Another site can take a name for this server's address, but no address.
    reached, _ = request.scope.get("server") or ("", None)
    return address is not None and address == _address(reached)

  def _is_own(self, origin: str, host: str) -> bool:
    """Returns whether an Origin header is that of this server's own page.

    Args:
      origin: the Origin header, such as "http://localhost:8000".
      host: the Host header; "" if the request has none.
    """
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https"):
      return False  # "null" too, which a frame without an origin sends
    # A proxy may have replaced Host by the address at which it asks.
    return place == host.lower() or _name_of_place(place) in self._allowed


def _follows_link(request: requests.Request) -> bool:
  """Returns whether a browser opens the page "/" by this request.

  The result follows from the method, the path and the Sec-Fetch headers.
  """
  return (
    request.method in ("GET", "HEAD")
    and request.scope["path"] == "/"
    and request.headers.get("sec-fetch-mode") == "navigate"
    and request.headers.get("sec-fetch-dest") == "document"
  )


def _checked_name(entry: str) -> str:
  """Returns the name of an entry of --allowed_hosts, as browsers write it.

  Raises:
    options.InputError: for an entry that is no name or address.
  """
  name = _name(entry)
  if not _address(name) and not _NAME.fullmatch(name):
    raise options.InputError(
      "host names in --allowed_hosts, such as tweets.example.org",
      entry,
      "leave out the scheme, the port and the path",
    )
  return name


def _name_of_place(place: str) -> str:
  """Returns the name in a text "name" or "name:port", as browsers write it.

  The result is "" for any other text.
  """
  match = _PLACE.fullmatch(place.lower())
  return _name(match[1]) if match else ""


def _name(host: str) -> str:
  """Returns a host name as browsers write it, with international names encoded.

  жишээ.мн becomes xn--f1ae2cuaa.xn--l1ac. An IPv6 address loses its brackets.
  The result is "" for a text that IDNA cannot encode. The text need not be a
  host: "a b" is returned unchanged.
  """
  if address := _address(host.strip("[]")):
    return str(address)
  try:
    return host.lower().rstrip(".").encode("idna").decode("ascii")
  except UnicodeError:
    return ""  # no host has that name


def _address(
  text: str,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
  """Returns the IP address in a text; None for any other text.

  An IPv4-mapped IPv6 address becomes the IPv4 address.
  """
  try:
    address = ipaddress.ip_address(text)
  except ValueError:
    return None
  # An IPv6 socket shows the IPv4 address 127.0.0.1 as ::ffff:127.0.0.1.
  return getattr(address, "ipv4_mapped", None) or address
