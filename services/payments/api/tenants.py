"""Tenants: created and changed by the operator of the installation."""

from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from services.payments.configure_tenant import Tenant, change_tenant, create_tenant, get_tenant
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Database
from shared.errors import Forbidden
from shared.fields import Body, Currency, Slug, Text
from shared.routes import SAME_AGAIN, actor

_known_zones = cache(available_timezones)  # reads hundreds of files


def _zone(name: str) -> str:
    if name not in _known_zones() or ("/" not in name and name != "UTC"):  # "localtime" is the machine's
        raise ValueError(f"{name!r} is not a time zone of the IANA database")
    return ZoneInfo(name).key


class NewTenant(Body):
    """A fleet operator, or a clinic."""

    tenant_id: Slug = Field(examples=["demo"])
    name: Text = Field(examples=["Demo Sacco"])
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(examples=["Africa/Nairobi"])
    currency: Currency


class TenantChange(Body):
    """What may change; the time zone may not, since the books are cut in it."""

    name: Text | None = None
    currency: Currency | None = None


class TenantOut(BaseModel):
    """A tenant."""

    tenant_id: str
    name: str
    time_zone: str
    currency: str


def router(db: Database) -> APIRouter:
    """The routes of tenants."""
    routes = APIRouter(prefix="/api/v1/tenants", tags=["tenants"])
    operator = Allow(Role.OPERATOR)

    @routes.post("", status_code=201, response_model=TenantOut, responses={200: SAME_AGAIN | {"model": TenantOut}})
    async def create(
        request: Request, response: Response, body: NewTenant, caller: Annotated[Principal, Depends(operator)]
    ) -> TenantOut:
        """Create a tenant; the same again is 200, another one of that id 409."""
        tenant = Tenant(body.tenant_id, body.name, body.time_zone, body.currency)
        is_new = await db.run(
            lambda conn: create_tenant(conn, tenant, actor=actor(request, caller), now=utc_now()), tenant.tenant_id
        )
        response.status_code = 201 if is_new else 200
        return TenantOut(**body.model_dump())

    @routes.patch("/{tenant_id}")
    async def change(
        request: Request, tenant_id: Slug, body: TenantChange, caller: Annotated[Principal, Depends(operator)]
    ) -> TenantOut:
        """Change name or default currency."""
        who = actor(request, caller)
        tenant = await db.run(
            lambda conn: change_tenant(
                conn, tenant_id, name=body.name, currency=body.currency, actor=who, now=utc_now()
            ),
            tenant_id,
        )
        return TenantOut.model_validate(tenant._asdict())

    @routes.get("/{tenant_id}")
    async def get(
        tenant_id: Slug,
        caller: Annotated[Principal, Depends(Allow(Role.OPERATOR, Role.ADMIN, Role.FINANCE, Role.SYSTEM))],
    ) -> TenantOut:
        """A tenant; for others than the operator their own."""
        if not caller.has(Role.OPERATOR) and caller.tenant_id != tenant_id:
            raise Forbidden("This is another tenant.")
        async with db.transaction(tenant_id) as conn:
            return TenantOut.model_validate((await get_tenant(conn, tenant_id))._asdict())

    return routes
