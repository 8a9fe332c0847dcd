"""Settings of the payouts service."""

from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Prefix PAYOUTS_."""

    model_config = SettingsConfigDict(env_prefix="PAYOUTS_")
