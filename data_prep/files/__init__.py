"""Files, local and in buckets: how each is read, written, owned, described."""
