"""Signed webhooks to one payments process, against pgbench writing the same rows to a database of its own."""

import asyncio
import json
import re
import subprocess
import time
from pathlib import Path
from statistics import median

import aiohttp

from bench.options import Options
from bench.place import Place, Running
from bench.processes import CpuSeconds, Round, cpu_seconds, middle
from bench.result import Result, at_most, ratio_at_least
from bench.trips import batches, callback_of, payment_of, register
from bench.webhook_load import Outcome, send, signed_requests
from deploy.postgres_folder import find_binaries, plain_environment

CLIENTS = 64
PAYMENTS = 9_600  # a round
WARM_UP = 3_200
BATCH_CALLERS = 16
FILL_BASELINE = """
INSERT INTO requests (tenant_id, request_id, status, kind, amount, currency, occurred_at, client_id, client_name, client_phone,
    fleet_id, route_id, vehicle_id, payees, content_hash, created_at, updated_at)
SELECT 'bench', 'trip-' || ({round}::bigint * 100000000 + client * 1000000 + number), 'pending_payment', 'trip', 50000, 'KES',
    now(), 'client-1', 'Client 1', '+254700000001', 'fleet-1', 'route-1', 'vehicle-1',
    '[{{"payee_id": "driver-1", "share_bp": 10000}}]', '\\x00', now(), now()
FROM generate_series(0, {clients} - 1) AS client, generate_series(1, {each}) AS number
"""


def fill_baseline(place: Place, round_number: int, payments: int) -> None:
    """The requests that a round of `raw_rate` completes."""
    each = payments // CLIENTS
    place.execute(
        "baseline", FILL_BASELINE.format(round=round_number, clients=CLIENTS, each=each), "VACUUM ANALYZE requests"
    )


def raw_rate(place: Place, round_number: int, payments: int) -> float:
    """Payments a second that pgbench writes, one transaction each, with 64 clients."""
    server = place.postgres
    done = subprocess.run(
        [
            str(find_binaries() / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2",
            f"--transactions={payments // CLIENTS}", f"--define=round={round_number}", "--define=number=0",
            f"--file={Path(__file__).with_name('baseline.sql')}", "--max-tries=1",
            f"--host={server.host}", f"--port={server.port}", "--username=postgres", "baseline",
        ],
        env={**plain_environment(), "PGPASSWORD": server.superuser_password},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if done.returncode or not found or "number of failed transactions: 0 " not in done.stdout:
        raise RuntimeError(f"pgbench failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    return float(found[1])


def send_round(
    place: Place, payments: Running, account: tuple[str, str], name: str, count: int, *, connections: int
) -> tuple[Outcome, CpuSeconds]:
    """Register `count` trips, send their callbacks, and see that all of them were taken."""
    numbers = range(count)
    register(place, payments, name, numbers)
    requests = signed_requests(payments.url, *account, [callback_of(name, number) for number in numbers])
    with cpu_seconds(service=payments.pid, postgres=place.postgres_pid, broker=place.kafka_pid) as cpu:
        outcome = send(payments.url, requests, connections=connections)
    if outcome.refused or len(outcome.latencies_s) != count:
        raise RuntimeError(f"{outcome.refused} of {count} callbacks were refused")
    return outcome, cpu


def bench(place: Place, options: Options) -> list[Result]:
    """Rows `ingest`, `ingest-latency` and `batch`: interleaved rounds on the same servers."""
    place.copy_database("payments", "baseline")
    raw: list[float] = []
    ours: list[float] = []
    p99_ms: list[float] = []
    used: list[dict[str, int]] = []
    used_at_16: list[dict[str, int]] = []
    batched: list[Round] = []
    with place.service("payments") as payments:
        place.create_tenant(payments)
        account = place.open_account(payments)
        send_round(place, payments, account, "warm", WARM_UP, connections=CLIENTS)
        for number in range(options.rounds):
            fill_baseline(place, number, PAYMENTS)
            raw.append(raw_rate(place, number, PAYMENTS))
            outcome, cpu = send_round(place, payments, account, f"a{number}", PAYMENTS, connections=CLIENTS)
            ours.append(outcome.per_s)
            used.append(cpu.per_item_us(PAYMENTS))
            outcome, cpu = send_round(place, payments, account, f"b{number}", PAYMENTS // 2, connections=16)
            p99_ms.append(outcome.latency_ms(0.99))
            used_at_16.append(cpu.per_item_us(PAYMENTS // 2))
            batched.append(batch_round(place, payments, f"c{number}", 2 * PAYMENTS))
    ratios = [mine / theirs for mine, theirs in zip(ours, raw, strict=True)]
    return [
        ratio_at_least("ingest", ratios, 0.5, per_s=round(median(ours)), pgbench_per_s=round(median(raw)),
                       cpu_us_per_payment=middle(used)),
        at_most("ingest-latency", p99_ms, 30, "ms p99 at 16 connections", cpu_us_per_payment=middle(used_at_16)),
        ratio_at_least("batch", [each.per_s / one for each, one in zip(batched, ours, strict=True)], 3,
                       per_s=round(median(each.per_s for each in batched)),
                       cpu_us_per_payment=middle([each.cpu_us for each in batched])),
    ]  # fmt: skip


def batch_round(place: Place, payments: Running, name: str, count: int) -> Round:
    """Payments through `POST /payments/batch`, 100 at once, by several callers."""
    numbers = range(count)
    register(place, payments, name, numbers)
    bodies = [json.dumps({"items": [payment_of(name, n) for n in some]}).encode() for some in batches(numbers, 100)]
    with cpu_seconds(service=payments.pid, postgres=place.postgres_pid, broker=place.kafka_pid) as cpu:
        per_s = asyncio.run(_post_batches(payments.url, place.headers("system"), bodies))
    return Round(per_s, cpu.per_item_us(count))


async def _post_batches(url: str, headers: dict[str, str], bodies: list[bytes]) -> float:
    left = iter(bodies)

    async def caller(http: aiohttp.ClientSession) -> None:
        for body in left:
            async with http.post(f"{url}/api/v1/payments/batch", data=body, headers=headers) as answer:
                said = await answer.read()
                if said.count(b'"status":201,') != body.count(b'"request_id"'):
                    raise RuntimeError(f"a payment was refused: {said[:300]!r}")

    async with aiohttp.ClientSession(headers={"content-type": "application/json"}) as http:
        began = time.perf_counter()
        await asyncio.gather(*(caller(http) for _ in range(BATCH_CALLERS)))
    return 100 * len(bodies) / (time.perf_counter() - began)
