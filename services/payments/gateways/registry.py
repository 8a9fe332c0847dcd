"""The gateways there are, by the name in a callback's address."""

from collections.abc import Mapping

from services.payments.gateways import Gateway
from services.payments.gateways.standard import StandardGateway

GATEWAYS: Mapping[str, Gateway] = {"standard": StandardGateway()}
