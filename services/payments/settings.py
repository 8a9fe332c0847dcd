"""Settings of the payments service."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Prefix PAYMENTS_."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_")

    secrets_keys: SecretStr = Field(description="Fernet keys, comma-separated; the first encrypts, all decrypt")
    sweep_every_s: float = 2.0
