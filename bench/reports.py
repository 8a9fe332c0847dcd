"""Reports over a year of many payments, by the HTTP API."""

import time

import httpx

from bench.backlog import TENANT_ROW
from bench.fill import FILL_REPORTING, TENANTS, fill
from bench.options import Options
from bench.place import TENANT, Place, Running
from bench.processes import cpu_seconds, middle
from bench.result import Result, at_most

ASKS = 100  # of each kind, a round
YEAR = {"date_from": "2025-11-01", "date_to": "2026-10-31"}
REPORTS: dict[str, tuple[str, dict[str, str]]] = {
    "revenue by day": ("/api/v1/reports/revenue", {**YEAR, "group_by": "day"}),
    "revenue by day and fleet": ("/api/v1/reports/revenue", {**YEAR, "group_by": "day", "by": "fleet"}),
    "profits": ("/api/v1/reports/profits", YEAR),
}


def bench(place: Place, options: Options) -> list[Result]:
    """Row `reports`: the slowest kind's p95."""
    place.execute("reporting", TENANT_ROW)
    fill(place, "reporting", FILL_REPORTING, payments=options.payments)
    p95_ms: dict[str, list[float]] = {name: [] for name in REPORTS}
    used: list[dict[str, int]] = []
    with place.service("reporting") as reporting:
        for _ in range(options.rounds):
            with cpu_seconds(service=reporting.pid, postgres=place.postgres_pid) as cpu:
                for name, (path, query) in REPORTS.items():
                    p95_ms[name].append(
                        _p95_ms(place, reporting, path, query, at_least=0.9 * options.payments / TENANTS)
                    )
            used.append(cpu.per_item_us(ASKS * len(REPORTS)))
    slowest = max(REPORTS, key=lambda name: sorted(p95_ms[name])[options.rounds // 2])
    each = {name: round(sorted(values)[options.rounds // 2], 1) for name, values in p95_ms.items()}
    return [
        at_most(
            "reports",
            p95_ms[slowest],
            50,
            "ms p95",
            payments=options.payments,
            each=each,
            cpu_us_per_report=middle(used),
        )
    ]


def _p95_ms(place: Place, reporting: Running, path: str, query: dict[str, str], *, at_least: float) -> float:
    took = []
    with httpx.Client(base_url=reporting.url, timeout=30) as http:
        for number in range(ASKS):
            tenant = TENANT if number % TENANTS == 0 else f"tenant-{number % TENANTS}"
            headers = place.headers("admin", tenant=tenant)
            began = time.perf_counter()
            answer = http.get(path, params=query, headers=headers)
            took.append(1000 * (time.perf_counter() - began))
            found = answer.raise_for_status().json()
            if found.get("count", found.get("count_payments")) < at_least:
                raise RuntimeError(f"a report shows too little: {str(found)[:300]}")
    return sorted(took)[int(0.95 * ASKS)]
