"""HTTP edge of reporting: parse, read, answer."""
