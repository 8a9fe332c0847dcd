"""Services as processes of their own whose clocks, and only theirs, show another time."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from deploy.ports import free_port
from deploy.processes import Command, spawn, stop
from deploy.tokens import AUDIENCE, ISSUER
from tests.conftest import environment, until

PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
QUIET = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def faketime_library() -> Path:
    """Debian's libfaketime, installed where that can be done; skips the test where it cannot."""
    found = _found()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "faketime"]):
            subprocess.run(command, env=QUIET, check=False, capture_output=True, timeout=300)
        found = _found()
    if found is None:
        pytest.skip("libfaketime is not there and cannot be installed here (Debian: faketime)")
    return found


def _found() -> Path | None:
    return next((path for place in PLACES for path in sorted(Path("/").glob(place[1:]))), None)


@dataclass
class Clocked:
    """A service's process; `offset` is how far its clock is ahead of the real one."""

    name: str
    http: httpx.AsyncClient
    issuer: Any
    clock_file: Path
    offset: timedelta = timedelta()

    @property
    def now(self) -> datetime:
        """What its clock shows."""
        return datetime.now(UTC) + self.offset

    def set_offset(self, offset: timedelta) -> None:
        """Let its clock jump."""
        self.offset = offset
        self.clock_file.write_text(f"{offset.total_seconds():+.3f}")

    async def until_it_shows(self, moment: datetime) -> None:
        """Wait until the service itself says that it is `moment` or later."""

        async def shows() -> bool:
            answer = await self.http.get("/health/live")
            said = parsedate_to_datetime(answer.headers["date"])
            return moment <= said <= self.now + timedelta(seconds=2)

        await until(shows, within_s=30)

    async def call(self, method: str, path: str, *roles: str, tenant: str | None, **more: Any) -> Any:
        """The body of a successful answer to a caller whose token fits the service's clock."""
        claims = more.pop("claims", {})
        answer = await self.http.request(
            method, f"/api/v1{path}", headers=self.as_(*roles, tenant=tenant, **claims), **more
        )
        assert answer.is_success, (self.name, path, answer.text)
        return answer.json()

    def as_(self, *roles: str, tenant: str | None, **claims: Any) -> dict[str, str]:
        """The headers of a caller."""
        issued = int((self.now - timedelta(minutes=1)).timestamp())
        said = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "test",
            "iat": issued,
            "exp": issued + 3_600,
            "roles": list(roles),
        }
        token = jwt.encode(
            {**said, "tenant_id": tenant, **claims}, self.issuer._key, algorithm="EdDSA", headers={"kid": ISSUER}
        )
        return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def shifted(
    offsets: dict[str, timedelta], *, database: Any, issuer: Any, kafka: str, smtp_port: int, folder: Path
) -> AsyncIterator[dict[str, Clocked]]:
    """Services, each with its clock ahead by so much, ready; ended with the block."""
    library = await asyncio.to_thread(faketime_library)
    async with AsyncExitStack() as stack:
        made: dict[str, Clocked] = {}
        ports: set[int] = set()
        for name, offset in offsets.items():
            port = free_port(frozenset(ports))
            ports.add(port)
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15))
            clocked = made[name] = Clocked(name, http, issuer, folder / f"{name}.clock")
            clocked.set_offset(offset)
            values = environment(name, await database(name), issuer, kafka) | {"http_port": str(port)}
            values |= {"smtp_port": str(smtp_port)} if name == "alerts" else {}
            own = {f"{name.upper()}_{key.upper()}": value for key, value in values.items()}
            command = Command(
                name=name,
                argv=(sys.executable, "-m", f"services.{name}"),
                log=folder / f"{name}.log",
                env={**os.environ, **own, **_clock(library, clocked.clock_file)},
            )
            stack.callback(stop, spawn(command), command, grace_seconds=5)
        for clocked in made.values():
            await until(lambda clocked=clocked: _is_ready(clocked), within_s=60)
            await clocked.until_it_shows(clocked.now - timedelta(seconds=2))
        yield made


def _clock(library: Path, file: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",  # seconds after which the file is read again
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }


async def _is_ready(clocked: Clocked) -> bool:
    try:
        return (await clocked.http.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False
