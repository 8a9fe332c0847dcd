"""The environment from which operators' commands learn where a test's databases and broker are."""

from tests.conftest import ServiceUrls


def access_environment(kafka: str = "127.0.0.1:1", **databases: ServiceUrls) -> dict[str, str]:
    """What is to be set so that commands find `databases` (by service) and the broker."""
    environment = {"TAKINGS_KAFKA_BOOTSTRAP": kafka}
    for service, urls in databases.items():
        environment |= {
            f"{service.upper()}_OWNER_DATABASE_URL": urls.owner,
            f"{service.upper()}_DATABASE_URL": urls.app,
            f"{service.upper()}_SYSTEM_DATABASE_URL": urls.system,
            f"{service.upper()}_AUDITOR_DATABASE_URL": urls.auditor,
        }
    return environment
