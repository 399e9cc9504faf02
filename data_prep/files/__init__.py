"""Files, local and in buckets: how they are read, written, owned and described."""
