"""Tests of the requests that are refused as those of another site's page."""

import pytest
from starlette import exceptions, requests

from bert_tweet import callers
from data_prep.base import options

REACHED = "127.0.0.1"


def _status(
  guard: callers.Guard,
  headers: dict[str, str],
  method: str = "POST",
  path: str = "/api/predict",
  reached: str = REACHED,
) -> int:
  scope = {
    "type": "http",
    "method": method,
    "path": path,
    "server": (reached, 8000),
    "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
  }
  try:
    guard.check(requests.Request(scope))
  except exceptions.HTTPException as error:
    assert "\n" not in error.detail
    assert len(error.detail) < 200
    return error.status_code
  return 200


@pytest.mark.parametrize(
  ("host", "status"),
  [
    ("127.0.0.1:8000", 200),
    ("127.0.0.1", 200),
    ("LocalHost:9000", 200),
    ("localhost.", 200),
    ("[::1]:8000", 200),
    ("127.8.9.10", 200),
    ("tweets.example.org", 200),
    ("TWEETS.example.org.:443", 200),
    ("[2001:DB8:0::1]", 200),
    ("10.0.0.7", 200),
    ("xn--e1afmkfd.mn:80", 200),
    ("evil.example", 421),
    ("localhost.evil.example", 421),
    ("127.0.0.1.evil.example", 421),
    ("evil.tweets.example.org", 421),
    ("127.0.0.1@evil.example", 421),
    ("10.0.0.8", 421),
    ("", 421),
    (":8000", 421),
    ("localhost:8000:8000", 421),
    ("localhost/a", 421),
    ("a b", 421),
    ("x" * 5000, 421),
    ("localhost\xe9", 421),
    ("2130706433", 421),
  ],
)
def test_a_host_that_is_not_ours_is_refused(host: str, status: int) -> None:
  guard = callers.Guard(
    "127.0.0.1", "tweets.example.org, 10.0.0.7,[2001:db8::1],пример.mn"
  )
  assert _status(guard, {"host": host}) == status


def test_what_is_bound_and_reached_needs_no_flag() -> None:
  guard = callers.Guard("0.0.0.0", "")
  for reached in ("192.0.2.1", "::ffff:192.0.2.1"):
    assert _status(guard, {"host": "192.0.2.1:8000"}, reached=reached) == 200
    assert _status(guard, {"host": "192.0.2.2:8000"}, reached=reached) == 421
    assert _status(guard, {"host": "0.0.0.0:8000"}, reached=reached) == 200
  assert _status(callers.Guard("My.Machine", ""), {"host": "my.machine"}) == 200
  assert _status(guard, {}) == 200, "HTTP/1.0, which no browser speaks"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Same-Origin", ""])
def test_another_sites_page_is_refused(site: str) -> None:
  guard = callers.Guard("127.0.0.1", "")
  headers = {"host": "127.0.0.1:8000", "sec-fetch-site": site}
  for method, path in (
    ("GET", "/"),
    ("GET", "/metrics"),
    ("POST", "/api/predict"),
    ("GET", "/api/to_back_end/predict"),
    ("OPTIONS", "/api/predict"),
  ):
    assert _status(guard, headers, method, path) == 403


def test_our_page_and_programs_are_let_in() -> None:
  guard = callers.Guard("127.0.0.1", "")
  for site in ("same-origin", "none"):
    headers = {"host": "127.0.0.1:8000", "sec-fetch-site": site}
    assert _status(guard, headers) == 200
    headers["origin"] = "http://127.0.0.1:8000"
    assert _status(guard, headers) == 200
  assert _status(guard, {"host": "127.0.0.1:8000"}) == 200


def test_a_link_of_another_site_leads_to_the_page_alone() -> None:
  guard = callers.Guard("127.0.0.1", "")
  link = {
    "host": "127.0.0.1:8000",
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
  }
  assert _status(guard, link, "GET", "/") == 200
  assert _status(guard, link, "POST", "/") == 403
  assert _status(guard, link, "GET", "/api/to_back_end/predict") == 403
  assert _status(guard, {**link, "sec-fetch-dest": "iframe"}, "GET", "/") == 403
  assert _status(guard, {**link, "host": "evil.example"}, "GET", "/") == 421


@pytest.mark.parametrize(
  ("origin", "host", "status"),
  [
    ("http://localhost:8000", "localhost:8000", 200),
    ("http://[::1]:8000", "[::1]:8000", 200),
    ("https://tweets.example.org", "tweets.example.org", 200),
    # A proxy asked at the address that it knows.
    ("https://tweets.example.org", "127.0.0.1:8000", 200),
    ("http://localhost:3000", "localhost:8000", 403),
    ("http://127.0.0.1:8000", "localhost:8000", 403),
    ("http://evil.example", "localhost:8000", 403),
    ("http://localhost:8000.evil.example", "localhost:8000", 403),
    ("https://tweets.example.org.evil.example", "localhost:8000", 403),
    ("null", "localhost:8000", 403),
    ("", "localhost:8000", 403),
    ("file://localhost:8000", "localhost:8000", 403),
  ],
)
def test_the_page_of_another_origin_is_refused(
  origin: str, host: str, status: int
) -> None:
  guard = callers.Guard("127.0.0.1", "tweets.example.org")
  assert _status(guard, {"origin": origin, "host": host}) == status


@pytest.mark.parametrize(
  "names",
  [
    "http://a.example",
    "a.example:80",
    "a/b",
    "*",
    "a b",
    "a..b",
    "x" * 70,
    "@",
  ],
)
def test_an_allowed_host_is_a_name_alone(names: str) -> None:
  with pytest.raises(options.InputError, match="host names in --allowed_hosts"):
    callers.Guard("127.0.0.1", f"b.example,{names}")
