"""Small changes to a good delivery, each of which must make it a bad one."""

import base64
from random import Random


def mutated(choice: Random, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """The delivery with one bit, byte, header or part of a header changed."""
    headers, changed = dict(headers), bytearray(body)
    match choice.randrange(7):
        case 0:
            changed[choice.randrange(len(changed))] ^= 1 << choice.randrange(8)
        case 1:
            del changed[choice.randrange(len(changed))]
        case 2:
            changed.insert(choice.randrange(len(changed) + 1), choice.randrange(256))
        case 3:
            raw = bytearray(base64.b64decode(headers["webhook-signature"][3:]))
            raw[choice.randrange(len(raw))] ^= 1 << choice.randrange(8)
            headers["webhook-signature"] = "v1," + base64.b64encode(raw).decode()
        case 4:
            signature = headers["webhook-signature"]
            headers["webhook-signature"] = signature[: choice.randrange(len(signature))]
        case 5:
            headers["webhook-timestamp"] = str(
                int(headers["webhook-timestamp"]) + choice.choice([-1, 1]) * choice.randrange(1, 250)
            )
        case 6:
            headers["webhook-id"] += choice.choice([".", "x", "\xff", " "])
    return headers, bytes(changed)
