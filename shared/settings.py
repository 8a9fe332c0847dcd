"""Settings that every service has; read once from the environment, by the composition root only."""

import sys
from typing import Literal, NoReturn, Self, TypeVar

from pydantic import Field, PostgresDsn, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.auth import DEVELOPMENT_ISSUER


class ServiceSettings(BaseSettings):
    """Frozen. A subclass sets its own prefix; a secret has no default, so that a missing one stops the start."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    environment: Literal["local", "production"] = "production"
    database_url: SecretStr
    system_database_url: SecretStr
    kafka_bootstrap: str
    http_host: str = "127.0.0.1"
    http_port: int
    auth_issuer: str
    auth_audience: str = "takings"
    auth_public_key: str | None = None
    auth_key_id: str | None = None
    auth_jwks_url: str | None = None
    unsafe_durability_for_tests: bool = False
    tenant_wait_s: float = Field(default=10.0, description="how long an event waits for its tenant to arrive")
    pool_size: int = Field(default=8, ge=2, le=100)
    log_level: str = "INFO"
    otlp_endpoint: str | None = None

    @model_validator(mode="after")
    def _keys_fit_the_environment(self) -> Self:
        if (self.auth_public_key is None) == (self.auth_jwks_url is None):
            raise ValueError("set exactly one of AUTH_PUBLIC_KEY and AUTH_JWKS_URL")
        if self.auth_issuer == DEVELOPMENT_ISSUER and self.environment != "local":
            raise ValueError(f"the issuer {DEVELOPMENT_ISSUER!r} is for ENVIRONMENT=local only")
        return self


class MigrationSettings(BaseSettings):
    """What `migrate` needs: the owner's connection, which the running service never has."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    owner_database_url: PostgresDsn


Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(kind: type[Settings], prefix: str) -> Settings:
    """Read `kind` from the environment, or end the process with one line per missing or wrong variable."""
    try:
        return kind(_env_prefix=prefix)
    except ValidationError as error:
        _refuse_to_start(prefix, error)


def _refuse_to_start(prefix: str, error: ValidationError) -> NoReturn:
    for problem in error.errors(include_input=False, include_url=False):
        name = prefix + "_".join(str(part) for part in problem["loc"]).upper()
        print(f"cannot start: {name.rstrip('_')}: {problem['msg']}", file=sys.stderr)  # noqa: T201 - no log yet
    sys.exit(2)
