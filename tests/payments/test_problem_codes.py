"""A caller tells problems apart by their codes: each is said by one error."""

import re
from collections import Counter

from deploy.state import PROJECT

CODE = re.compile(r'^    code(?:: ClassVar\[str\])? = "(.+)"$', re.MULTILINE)


def test_each_code_is_of_one_error():
    sources = [path for top in ("services", "shared") for path in (PROJECT / top).rglob("*.py")]
    codes = Counter(code for path in sources for code in CODE.findall(path.read_text()))
    assert codes["request-unknown"] == 1
    assert [code for code, errors in codes.items() if errors > 1] == []
