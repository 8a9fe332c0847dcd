"""The development issuer: its tokens are what the services' verifier accepts, and its key stays private."""

import stat
from pathlib import Path

import jwt
import pytest

from deploy.errors import StackError
from deploy.tokens import AUDIENCE, ISSUER, ROLES, TokenIssuer
from shared.auth import DEVELOPMENT_ISSUER, Keys, Role, Unauthorized, Verifier


def test_issuer_and_roles_are_those_of_the_services() -> None:
    assert ISSUER == DEVELOPMENT_ISSUER
    assert set(ROLES) == set(Role)


async def test_a_token_says_who_its_bearer_is(tmp_path: Path) -> None:
    issuer = TokenIssuer(tmp_path)
    verifier = Verifier(Keys(pem=issuer.public_key), ISSUER, AUDIENCE)
    minted = issuer.mint(["driver", "manager"], tenant_id="demo", driver_id="d1", fleet_ids=["f1", "f2"])
    caller = await verifier.principal(minted)
    assert (caller.subject, caller.tenant_id, caller.driver_id, caller.client_id) == ("d1", "demo", "d1", None)
    assert caller.roles == {Role.DRIVER, Role.MANAGER}
    assert caller.fleet_ids == {"f1", "f2"}
    assert jwt.get_unverified_header(minted) == {"alg": "EdDSA", "typ": "JWT", "kid": ISSUER}


async def test_the_key_is_kept_private_and_used_again(tmp_path: Path) -> None:
    minted = TokenIssuer(tmp_path).mint(["operator"])
    assert stat.S_IMODE((tmp_path / "token-key.pem").stat().st_mode) == 0o600
    again, other = TokenIssuer(tmp_path), TokenIssuer(tmp_path / "other")
    assert (await Verifier(Keys(pem=again.public_key), ISSUER, AUDIENCE).principal(minted)).tenant_id is None
    with pytest.raises(Unauthorized):
        await Verifier(Keys(pem=other.public_key), ISSUER, AUDIENCE).principal(minted)


async def test_a_token_ends(tmp_path: Path) -> None:
    issuer = TokenIssuer(tmp_path)
    ended = issuer.mint(["admin"], tenant_id="demo", lifetime_seconds=-60)
    with pytest.raises(Unauthorized):
        await Verifier(Keys(pem=issuer.public_key), ISSUER, AUDIENCE).principal(ended)


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no role 'boss'"):
        TokenIssuer(tmp_path).mint(["boss"])
