"""Reading payouts stands on its own: it needs what payouts are, and nothing of what is done with them."""

import subprocess
import sys

from deploy.state import PROJECT

LOADED = """
import sys, services.payouts.queries
print(*sorted(name for name in sys.modules if name.startswith("services.payouts.")))
"""


def test_reads_import_no_use_case():
    run = subprocess.run([sys.executable, "-c", LOADED], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["services.payouts.models", "services.payouts.queries"]
