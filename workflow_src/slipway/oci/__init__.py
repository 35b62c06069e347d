"""OCI images put together file by file: the same inputs give the same bytes, without a daemon or a build container."""
