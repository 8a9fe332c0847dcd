"""HTTP edge of payouts: parse, call one use case, answer."""
