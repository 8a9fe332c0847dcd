"""Settings of the alerts service."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Prefix ALERTS_."""

    model_config = SettingsConfigDict(env_prefix="ALERTS_")

    smtp_host: str
    smtp_port: int = Field(ge=1, le=65_535)
    mail_from: str = "alerts@takings.local"
    sweep_every_s: float = Field(default=0.2, gt=0, description="pause of the mail sweep when nothing wakes it")
