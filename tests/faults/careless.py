"""Connections on which no statement says which tenant it is about: what is left is row-level security."""

import re
from typing import Any, ClassVar

import asyncpg

# How statements say which tenant they are about, and what is left when they do not. What they insert stays as it is, and by
# what it may conflict: there must be an index for that.
UNSAID = {
    r"(?:\b\w+\.)?\btenant_id = \$(\d+)": r"($\1::text IS NOT NULL)",
    r"(?:\b\w+\.)?\btenant_id = ANY \(\$(\d+)\)": r"($\1::text[] IS NOT NULL)",
    r"\b\w+\.tenant_id = \w+\.tenant_id\b": "true",
    r"\(\w+\.tenant_id, ([^()]*)\)(\s*=\s*)\(\w+\.tenant_id, ([^()]*)\)": r"(\1)\2(\3)",
    # Of what is given and what is there, both have the column: only the one that is there keeps its name.
    r"(AS \w+ \()(tenant_id, [^()]*\)\s+(?:JOIN [^()]*?)?USING \()tenant_id, ": r"\1given_\2",
    r"\bUSING \(tenant_id, ": "USING (",
}.items()
SAYS = r"\btenant_id (?:=|<|>|IN\b|IS\b)|= (?:\w+\.)?tenant_id\b|USING \([^()]*\btenant_id\b|\.tenant_id, [^()]*\)\s*="


class Careless(asyncpg.Connection):
    """A connection on which no query says which tenant it is about, nor joins by it; only row-level security still does."""

    forgetful: ClassVar[set[str]] = set()  # the statements that said it

    @classmethod
    def careless(cls, query: str) -> str:
        less = query
        for said, unsaid in UNSAID:
            less = re.sub(said, unsaid, less)
        if less != query:
            cls.forgetful.add(query)
        return less

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().fetch(self.careless(query), *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().fetchrow(self.careless(query), *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().fetchval(self.careless(query), *args, **options)

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().execute(self.careless(query), *args, **options)
