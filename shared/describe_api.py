"""What a service's OpenAPI description says beyond what FastAPI finds: the roles, problems and their types, short summaries."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from shared.auth import Allow, Role
from shared.errors import DomainError
from shared.problems import PROBLEM

DESCRIBED = {404, 409, 422}
SENTENCE_END = re.compile(r"; |\.\s|\.?$")


def complete_description(api: FastAPI, *, service: str) -> None:
    """Make `api`, that of `service`, describe itself completely."""
    own = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            described = own()
            roles = _roles_of_operations(api)
            for path, operations in described["paths"].items():
                for method, operation in operations.items():
                    _complete(operation, roles.get((path, method)), _types_of_problems(service))
        return own()

    api.openapi = openapi  # type: ignore[method-assign]


def with_all_below(dependant: Dependant) -> list[Dependant]:
    """What a route depends on: `dependant`, its own, and all that this one depends on."""
    found = [dependant]
    for each in found:
        found += each.dependencies  # grows while it is gone through
    return found


def _roles_of_operations(api: FastAPI) -> dict[tuple[str, str], list[Role]]:
    found: dict[tuple[str, str], list[Role]] = {}
    for route in iter_route_contexts(api.routes):
        for dependant in with_all_below(route.dependant) if hasattr(route, "dependant") else []:
            if isinstance(dependant.call, Allow):
                roles = sorted(dependant.call.roles)
                found |= {(route.path_format or "", method.lower()): roles for method in route.methods or ()}
    return found


def _types_of_problems(service: str) -> dict[str, list[str]]:
    """By status, the types of a service's own refusals."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    kinds = DomainError.__subclasses__()
    for kind in kinds:
        kinds += kind.__subclasses__()  # grows while it is gone through
        if kind.__module__.startswith(f"services.{service}.") and kind.status in DESCRIBED:
            found[str(kind.status)].append(f"`{kind.code}`")
    return {status: sorted(set(codes)) for status, codes in found.items()}


def _complete(operation: dict[str, Any], roles: list[Role] | None, types: Mapping[str, Sequence[str]]) -> None:
    text = operation["description"]
    operation["summary"] = SENTENCE_END.split(text, maxsplit=1)[0]
    if roles is not None:
        operation["security"] = [{scheme: [str(role)]} for scheme in operation["security"][0] for role in roles]
        operation["description"] = f"{text}\n\nRoles, any of: {', '.join(roles)}."
    for status, response in operation["responses"].items():
        if roles is not None and status in types:
            response["description"] += f". Also of the types {', '.join(types[status])}"
        content = response.get("content", {})  # FastAPI files every model under application/json
        if int(status) >= 400 and "application/json" in content and PROBLEM in content:
            content[PROBLEM].update(content.pop("application/json"))
