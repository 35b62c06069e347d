"""The two front doors: bytes in, serving, bytes out."""
