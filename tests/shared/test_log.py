"""Nobody's name or number gets into a log, not even through an error of the database."""

import io
import json
import logging
import subprocess
import sys

import asyncpg
import pytest

from deploy.state import PROJECT
from shared.log import configure, logger

NAME = "Amina Wanjiru"


@pytest.fixture
def lines(monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    configure("tests")
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    monkeypatch.undo()
    configure("tests")
    logging.getLogger().handlers[0].setStream(sys.stdout)


async def test_the_row_that_failed_is_not_shown(lines, postgres_url):
    conn = await asyncpg.connect(postgres_url)
    await conn.execute("CREATE TEMPORARY TABLE people (name text, age integer CHECK (age > 0))")
    try:
        await conn.execute("INSERT INTO people VALUES ($1, -1)", NAME)  # a trace shows this line, not the value
    except asyncpg.CheckViolationError as error:
        logger("tests").error("could not be stored", error=f"{error}", exc_info=error)
        logger("tests").error("could not be stored", error=repr(str(error)))
    await conn.close()
    first, second = lines()
    assert "violates check constraint" in first["exception"] + first["error"]
    assert NAME not in json.dumps([first, second])


def test_personal_fields_are_removed_by_name(lines):
    logger("tests").warning("refused", phone="+254700000001", payment_id="p1")
    (line,) = lines()
    assert (line["phone"], line["payment_id"]) == ("[removed]", "p1")


def test_warnings_are_lines_of_the_log_too():
    code = "import warnings; from shared.log import configure; configure('tests'); warnings.warn('old ways')"
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    line = json.loads(run.stdout)
    assert line["level"] == "warning"
    assert "old ways" in line["event"]
    assert not run.stderr
