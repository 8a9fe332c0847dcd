"""Where a random run begins: printed each time, and given by TAKINGS_SEED to repeat one."""

import os
import random
import secrets


def seeded(what: str) -> random.Random:
    """Chances that can be had again: the seed is printed with what it is for."""
    seed = int(os.environ.get("TAKINGS_SEED") or secrets.randbits(32))
    print(f"{what}: TAKINGS_SEED={seed}", flush=True)
    return random.Random(seed)
