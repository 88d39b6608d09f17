"""Versions of the distributions named as arguments, as JSON; null for those that are not there."""

import importlib.metadata
import json
import sys

found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))  # noqa: T201
