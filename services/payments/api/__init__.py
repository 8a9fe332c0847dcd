"""HTTP edge of payments: parse, call one use case, answer."""
