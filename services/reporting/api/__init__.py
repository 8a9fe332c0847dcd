"""HTTP edge of reporting: parse, read, answer."""

from fastapi import APIRouter

from services.reporting.api import history, profits, revenue
from shared.db import Database


def router(db: Database) -> APIRouter:
    """The routes of reports."""
    routes = APIRouter(prefix="/api/v1/reports", tags=["reports"])
    for resource in (revenue, profits, history):
        routes.include_router(resource.router(db))
    return routes
