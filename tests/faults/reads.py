"""A read of each service, which needs that service's database."""

import aiohttp

from tests.faults.load import LOST, City

READS = {"payments": "/payments", "payouts": "/payouts", "reporting": "/reports/revenue", "alerts": "/alerts"}


async def read(city: City, service: str) -> int:
    """The status: 200, 503 that says when to come again, or 0 when the call was lost."""
    headers = city.servers.bearer("admin", tenant=city.tenant)
    url = f"{city.servers.url(service)}/api/v1{READS[service]}"
    try:
        async with city.session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as answer:
            assert answer.status in {200, 503}, await answer.text()
            assert answer.status == 200 or int(answer.headers["Retry-After"]) >= 1
            return answer.status
    except LOST:
        return 0
