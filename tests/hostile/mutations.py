"""Changes the bytes of a file, as damage, carelessness or malice would.

    mutations.changed(random.Random(3), b'{"text": "a"}')  # b'{"text": ""a"}'

The result is at most some 70 kB longer than the input, and harmless.
"""

import random
from collections.abc import Callable

_MOST = 1 << 16  # bytes that a change adds

# Bytes with a meaning for readers of text, JSON, XML, tables and wikitext.
_TOKENS = (
  b"\0",
  b"\xff\xfe",
  b"\xef\xbb\xbf",
  b"\r",
  b"\n\n",
  b'"',
  b"'",
  b",",
  b"\t",
  b"{",
  b"}",
  b"[",
  b"]",
  b"null",
  b"-1",
  b"NaN",
  b"1e999",
  b"9" * 5000,
  b"<",
  b">",
  b"</",
  b"&#0;",
  b"&a;",
  b"<!DOCTYPE a>",
  b"<![CDATA[",
  b"{{",
  b"}}",
  b"[[",
  b"{|",
  b"../",
  b"\\u202e",
  b"\xd1",
  b"\xf0\x9f",
  b"[" * 5000,
  b"{{a|" * 100,
  b"Template:" * 500,
  "\u0301\u0316".encode() * 2000,
)


def _cut(rng: random.Random, raw: bytes) -> bytes:
  """Returns the first part of a content."""
  return raw[: rng.randrange(len(raw))]


def _flip(rng: random.Random, raw: bytes) -> bytes:
  """Returns a content in which a few bits are flipped."""
  changed = bytearray(raw)
  for _ in range(rng.choice((1, 1, 2, 8))):
    changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
  return bytes(changed)


def _stretch(rng: random.Random, raw: bytes) -> tuple[int, int]:
  """Returns (begin, end) of a random range of bytes."""
  begin = rng.randrange(len(raw))
  return begin, min(len(raw), begin + rng.choice((1, 2, 4, 16, 256)))


def _without(rng: random.Random, raw: bytes) -> bytes:
  """Returns a content without a random range of bytes."""
  begin, end = _stretch(rng, raw)
  return raw[:begin] + raw[end:]


def _repeated(rng: random.Random, raw: bytes) -> bytes:
  """Returns a content in which a random range of bytes is repeated."""
  begin, end = _stretch(rng, raw)
  times = rng.choice((2, 3, 100))
  return raw[:begin] + (raw[begin:end] * times)[:_MOST] + raw[end:]


def _inserted(rng: random.Random, raw: bytes) -> bytes:
  """Returns a content with a token of _TOKENS inserted."""
  place = rng.randrange(len(raw))
  return raw[:place] + rng.choice(_TOKENS) + raw[place:]


def _random(rng: random.Random, raw: bytes) -> bytes:
  """Returns a content in which a range of bytes is replaced by random bytes."""
  begin, end = _stretch(rng, raw)
  return raw[:begin] + rng.randbytes(end - begin) + raw[end:]


def _whole(rng: random.Random, raw: bytes) -> bytes:
  """Returns another content: nothing, the content twice, noise or zeros."""
  return rng.choice((b"", raw + raw[:_MOST], rng.randbytes(200), b"\0" * 100))


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
  _cut,
  _flip,
  _without,
  _repeated,
  _inserted,
  _inserted,
  _random,
  _whole,
)


def changed(rng: random.Random, raw: bytes) -> bytes:
  """Returns a content after one to three random changes; b"" stays b""."""
  for _ in range(rng.choice((1, 1, 2, 3))):
    raw = rng.choice(_CHANGES)(rng, raw) if raw else raw
  return raw
