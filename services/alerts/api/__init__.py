"""HTTP edge of alerts: parse, call one use case, answer."""
