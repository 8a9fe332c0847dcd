"""The HTTP side of the stand-in for the stack: the four APIs and the mail catcher on one loopback port."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook, WebhookVerificationError

from tests.simulator.fake_books import FakeStack

SECRET = "whsec_ZmFrZSBzZWNyZXQgb2YgMzIgYnl0ZXMgLi4uLi4uLi4="
DIMENSIONS = {"fleet": "fleet_id", "route": "route_id", "vehicle": "vehicle_id"}


def results(items: list[tuple[int, str]]) -> web.Response:
    rows = [{"index": index, "status": status, "id": name} for index, (status, name) in enumerate(items)]
    return web.json_response({"results": rows})


def page(request: web.Request, items: list[Any], key: str = "items", **more: Any) -> web.Response:
    limit, start = int(request.query.get("limit", 100)), int(request.query.get("cursor", 0))
    rest = str(start + limit) if start + limit < len(items) else None
    return web.json_response({**more, key: items[start : start + limit], "next_cursor": rest})


class Handlers:
    def __init__(self, fake: FakeStack) -> None:
        self.fake = fake

    async def tenant(self, request: web.Request) -> web.Response:
        self.fake.zone = ZoneInfo((await request.json())["time_zone"])
        return web.json_response({}, status=201)

    async def account(self, request: web.Request) -> web.Response:
        return web.json_response({"id": "demo.1", "gateway": "standard", "secret": SECRET}, status=201)

    async def webhook(self, request: web.Request) -> web.Response:
        fake = self.fake
        fake.calls += 1
        if "busy" in fake.faults and fake.calls % 7 == 0:
            return web.json_response({}, status=503, headers={"Retry-After": "0"})
        raw = await request.read()
        try:
            if request.match_info["account"] != "demo.1":
                raise WebhookVerificationError("no such account")
            Webhook(SECRET).verify(raw, dict(request.headers))
        except WebhookVerificationError:
            if "believe forgeries" not in fake.faults:
                return web.json_response({}, status=401)
        event = await request.json()
        if "type" not in event:
            return web.json_response({}, status=400)
        fresh = fake.take(event["data"], event["type"].removeprefix("payment."))
        if not fresh and "count twice" in fake.faults and event["type"] == "payment.completed":
            again = event["data"]["transaction_id"] + "-again"
            fake.take({**event["data"], "transaction_id": again}, "completed")
        return web.json_response({"result": "recorded" if fresh else "duplicate"})

    async def register(self, request: web.Request) -> web.Response:
        items = (await request.json())["items"]
        kept = items[1:] if "lose a request" in self.fake.faults else items
        self.fake.requests.update({item["id"]: item for item in kept})
        return results([(201, item["id"]) for item in items])

    async def look(self, request: web.Request) -> web.Response:
        item = self.fake.requests.get(request.match_info["id"])
        if item is None:
            return web.json_response({}, status=404)
        paid = {payment["request_id"] for payment in self.fake.completed()}
        done = not item["amount"] or item["id"] in paid
        return web.json_response({"status": "completed" if done else "pending_payment"})

    async def cash(self, request: web.Request) -> web.Response:
        items = (await request.json())["items"]
        return results([(201 if self.fake.take(item, "completed") else 200, item["transaction_id"]) for item in items])

    async def payments(self, request: web.Request) -> web.Response:
        return page(request, list(self.fake.payments.values()))

    async def balances(self, request: web.Request) -> web.Response:
        rows = []
        for payee_id, account in self.fake.payees().items():
            owed = max(account["cash"] - account["earned"], 0)
            locked = account["requested"] + account["approved"]
            row = {"payee_id": payee_id, "available": self.fake.available(account), "owed": owed, "locked": locked}
            rows.append(row)
        return page(request, rows)

    async def ask(self, request: web.Request) -> web.Response:
        payee_id = request.headers["Authorization"].removeprefix("Bearer ")
        amount = self.fake.available(self.fake.payees()[payee_id])
        return web.json_response(self.fake.pay_out(payee_id, amount) if amount else {}, status=201 if amount else 409)

    async def ask_for_many(self, request: web.Request) -> web.Response:
        payee_ids = (await request.json())["payee_ids"]
        due = {name: self.fake.available(account) for name, account in self.fake.payees().items()}
        return results([(201, self.fake.pay_out(name, due[name])["id"]) for name in payee_ids])

    def move(self, status: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            ids = (await request.json())["ids"]
            for name in ids:
                self.fake.payouts[name]["status"] = status
            return results([(200, name) for name in ids])

        return handle

    async def list_payouts(self, request: web.Request) -> web.Response:
        return page(request, list(self.fake.payouts.values()))

    async def history(self, request: web.Request) -> web.Response:
        rows = [{"kind": "payment", **row} for row in self.fake.payments.values()]
        return page(request, rows + [{"kind": "payout", **row} for row in self.fake.payouts.values()])

    async def profits(self, request: web.Request) -> web.Response:
        fake, accounts = self.fake, self.fake.payees().values()
        sums: Counter[str] = Counter()
        for account in accounts:
            sums.update(account)
        revenue = sum(payment["amount"] for payment in fake.completed())
        fees = sum(payment.get("fee", 0) for payment in fake.completed())
        net = [account["earned"] - account["cash"] - account["disbursed"] for account in accounts]
        report = {
            "currency": "KES",
            "revenue": revenue,
            "refunds": 0,
            "payouts_disbursed": sums["disbursed"],
            "cash_held": sums["cash"],
            "fees": fees,
            "costs": 0,
            "net_profit": revenue - sums["disbursed"] - sums["cash"] - fees,
            "payee_earnings": sums["earned"],
            "commission_earned": sums["commission"],
            "earned_profit": revenue - sums["earned"] - fees,
            "owed_by_payees": -sum(amount for amount in net if amount < 0),
            "owed_to_payees": sum(amount for amount in net if amount > 0),
            "count_payments": len(fake.completed()),
        }
        return web.json_response(report)

    async def revenue(self, request: web.Request) -> web.Response:
        fake, by = self.fake, request.query.get("by")
        lines: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
        for payment in fake.completed():
            item = fake.requests.get(payment["request_id"], {"payees": []})
            key: Any = datetime.fromisoformat(payment["paid_at"]).astimezone(fake.zone).date().isoformat()
            if by == "payee":
                key = item["payees"][0]["payee_id"] if item["payees"] else None
            elif by:
                key = payment["method"] if by == "method" else item.get(DIMENSIONS[by])
            lines[key][0] += payment["amount"]
            lines[key][1] += 1
        total = {"total": sum(line[0] for line in lines.values()), "count": sum(line[1] for line in lines.values())}
        if by:
            groups = [{"key": key, "revenue": line[0], "count": line[1]} for key, line in lines.items()]
            return page(request, groups, "groups", **total)
        periods = [{"date": key, "revenue": line[0], "count": line[1]} for key, line in sorted(lines.items())]
        return web.json_response({**total, "periods": periods})

    async def rule(self, request: web.Request) -> web.Response:
        rule = await request.json()
        if rule["kind"] == "high_value":
            (self.fake.threshold,) = rule["thresholds"].values()
        return web.json_response({"id": rule["kind"]}, status=201)

    async def alerts(self, request: web.Request) -> web.Response:
        return page(request, [alert for alert in self.fake.alerts.values() if alert])

    async def messages(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [], "total": sum(bool(alert) for alert in self.fake.alerts.values())})


@asynccontextmanager
async def serve(fake: FakeStack) -> AsyncIterator[dict[str, Any]]:
    """Serve the fake on a free loopback port; yields its stack.json."""
    handle = Handlers(fake)
    app = web.Application(client_max_size=1 << 24)
    api = "/api/v1"
    app.add_routes(
        [
            web.post(f"{api}/tenants", handle.tenant),
            web.get(f"{api}/gateway-accounts", handle.payments),
            web.post(f"{api}/gateway-accounts", handle.account),
            web.post(f"{api}/webhooks/standard/{{account}}", handle.webhook),
            web.post(f"{api}/requests/batch", handle.register),
            web.get(f"{api}/requests/{{id}}", handle.look),
            web.post(f"{api}/payments/batch", handle.cash),
            web.get(f"{api}/payments", handle.payments),
            web.get(f"{api}/balances", handle.balances),
            web.post(f"{api}/payouts/request", handle.ask),
            web.post(f"{api}/payouts/request-batch", handle.ask_for_many),
            web.post(f"{api}/payouts/approve", handle.move("approved")),
            web.post(f"{api}/payouts/disburse", handle.move("disbursed")),
            web.get(f"{api}/payouts", handle.list_payouts),
            web.get(f"{api}/reports/history", handle.history),
            web.get(f"{api}/reports/profits", handle.profits),
            web.get(f"{api}/reports/revenue", handle.revenue),
            web.post(f"{api}/payments/alerts", handle.rule),
            web.get(f"{api}/alerts", handle.alerts),
            web.get("/messages", handle.messages),
        ]
    )
    server = TestServer(app)
    await server.start_server()
    try:
        yield fake.stack(str(server.make_url("")).rstrip("/"))
    finally:
        await server.close()


def mint(roles: list[str], *, driver_id: str | None = None, **_: Any) -> str:
    return driver_id or roles[0]
