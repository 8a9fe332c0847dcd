"""The books of an in-memory stand-in for the stack, only to try the simulator itself, with faults to be switched on."""

from collections import Counter, defaultdict
from typing import Any
from zoneinfo import ZoneInfo


class FakeStack:
    """`faults`: "believe forgeries", "count twice", "lose an alert", "busy", "lose a request"."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.zone = ZoneInfo("UTC")
        self.requests: dict[str, dict[str, Any]] = {}
        self.payments: dict[str, dict[str, Any]] = {}
        self.payouts: dict[str, dict[str, Any]] = {}
        self.alerts: dict[tuple[str, str], dict[str, Any]] = {}
        self.threshold = 0
        self.calls = 0

    def stack(self, url: str) -> dict[str, Any]:
        services = {name: {"url": url, "pids": []} for name in ("payments", "payouts", "reporting", "alerts")}
        return {"services": services, "mail": {"url": url}}

    def take(self, data: dict[str, Any], status: str) -> bool:
        """Apply a receipt; False when it changes nothing."""
        rank = {"pending": 0, "failed": 1, "completed": 2}
        name = data["transaction_id"]
        known = self.payments.get(name)
        if known is not None and rank[known["status"]] >= rank[status]:
            return False
        self.payments[name] = {**data, "id": name, "status": status}
        if status == "failed":
            self.alert("payment_failed", name)
        if status == "completed" and data["amount"] >= self.threshold:
            self.alert("high_value", name)
        return True

    def alert(self, kind: str, subject: str) -> None:
        if "lose an alert" in self.faults and not self.alerts:
            self.alerts["lost", ""] = {}
            return
        self.alerts[kind, subject] = {"kind": kind, "subject": subject, "mail": "sent"}

    def completed(self) -> list[dict[str, Any]]:
        return [payment for payment in self.payments.values() if payment["status"] == "completed"]

    def payees(self) -> dict[str, Counter[str]]:
        accounts: dict[str, Counter[str]] = defaultdict(Counter)
        for payment in self.completed():
            for payee in self.requests.get(payment["request_id"], {"payees": []})["payees"]:
                commission = (payment["amount"] + 5) // 10
                account = accounts[payee["payee_id"]]
                account.update(commission=commission, earned=payment["amount"] - commission)
                account["cash"] += payment["amount"] if payment["method"] == "cash" else 0
        for payout in self.payouts.values():
            accounts[payout["payee_id"]][payout["status"]] += payout["amount"]
        return accounts

    def available(self, account: Counter[str]) -> int:
        paid = sum(account[status] for status in ("requested", "approved", "disbursed"))
        return max(account["earned"] - account["cash"] - paid, 0)

    def pay_out(self, payee_id: str, amount: int) -> dict[str, Any]:
        name = f"po-{len(self.payouts)}"
        self.payouts[name] = {"id": name, "payee_id": payee_id, "amount": amount, "status": "requested"}
        return self.payouts[name]
