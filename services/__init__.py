"""The four services. Each starts as `python -m services.<name>`, and this is what runs first of it."""

import gc
import sys
import warnings

if sys.argv[0] == "-m":  # what Python puts there while it looks for the module that it will run: not under tests
    gc.disable()  # imports make nothing but what stays: `shared.process` enables it again
    # "Not installed": a tenth of a start, for colours that no log line has.
    sys.modules["rich"] = None  # type: ignore[assignment]

    from pydantic import BaseModel
    from pydantic.warnings import UnsupportedFieldAttributeWarning

    # Built when first used: what describes /openapi.json, which few ask for, takes a seventh of a start.
    BaseModel.model_config["defer_build"] = True
    # FastAPI silences this one where it makes its fields, which are now built later.
    warnings.simplefilter("ignore", category=UnsupportedFieldAttributeWarning)
