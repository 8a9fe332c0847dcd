"""From a callback's answer to the revenue report that shows it, at a steady 300 callbacks a second."""

import asyncio
import time
from contextlib import ExitStack

import httpx
import uvloop

from bench.options import Options
from bench.place import Place, Running
from bench.processes import cpu_seconds, middle
from bench.result import Result, at_most
from bench.trips import callback_of, register
from bench.webhook_load import Outcome, send_steadily, signed_requests
from deploy.databases import SERVICES

PER_S = 300
SECONDS = 15
POLL_S = 0.02
PATIENCE_S = 30.0


def bench(place: Place, options: Options) -> list[Result]:
    """Row `visible`; the four services run as they do in the stack, one process each."""
    p99_ms: list[float] = []
    used: list[dict[str, int]] = []
    with ExitStack() as stack:
        services = {name: stack.enter_context(place.service(name)) for name in SERVICES}
        pids = {name: service.pid for name, service in services.items()}
        place.create_tenant(services["payments"])
        account = place.open_account(services["payments"])
        _round(place, services, account, "warm", PER_S)  # consumers begin a while after their services
        for number in range(options.rounds):
            with cpu_seconds(**pids, postgres=place.postgres_pid, broker=place.kafka_pid) as cpu:
                p99_ms.append(_round(place, services, account, f"v{number}", PER_S * SECONDS))
            used.append(cpu.per_item_us(PER_S * SECONDS))
    return [at_most("visible", p99_ms, 500, "ms p99 from answer to report", cpu_us_per_payment=middle(used))]


def _round(place: Place, services: dict[str, Running], account: tuple[str, str], name: str, count: int) -> float:
    payments, reporting = services["payments"], services["reporting"]
    register(place, payments, name, range(count))
    requests = signed_requests(payments.url, *account, [callback_of(name, number) for number in range(count)])
    return uvloop.run(_send_and_watch(place, payments, reporting, requests))


async def _send_and_watch(place: Place, payments: Running, reporting: Running, requests: list[bytes]) -> float:
    outcome = Outcome()
    async with httpx.AsyncClient(base_url=reporting.url, headers=place.headers("admin"), timeout=10) as http:
        before = await _count(http)
        watcher = asyncio.create_task(_watch(http, before + len(requests)))
        await send_steadily(payments.url, requests, outcome, connections=32, per_s=PER_S)
        seen = await watcher
    if outcome.refused:
        raise RuntimeError(f"{outcome.refused} callbacks were refused")
    delays, place_in_line = [], 0
    for number, answered_at in enumerate(sorted(outcome.answered_at), start=before + 1):
        while seen[place_in_line][1] < number:
            place_in_line += 1
        delays.append(max(0.0, seen[place_in_line][0] - answered_at))
    return 1000 * sorted(delays)[int(0.99 * len(delays))]


async def _watch(http: httpx.AsyncClient, wanted: int) -> list[tuple[float, int]]:
    """When each number of payments was first seen in the report."""
    seen: list[tuple[float, int]] = []
    deadline = time.perf_counter() + SECONDS + PATIENCE_S
    while not seen or seen[-1][1] < wanted:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{seen[-1][1] if seen else 0} of {wanted} payments are in the report")
        count = await _count(http)
        seen.append((time.perf_counter(), count))
        await asyncio.sleep(POLL_S)
    return seen


async def _count(http: httpx.AsyncClient) -> int:
    answer = await http.get("/api/v1/reports/revenue", params={"group_by": "month"})
    # The tenant itself arrives as an event: before it, it is not known here.
    return 0 if answer.status_code == httpx.codes.FORBIDDEN else int(answer.raise_for_status().json()["count"])
