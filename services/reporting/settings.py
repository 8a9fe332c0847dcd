"""Settings of the reporting service."""

from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Prefix REPORTING_."""

    model_config = SettingsConfigDict(env_prefix="REPORTING_")
