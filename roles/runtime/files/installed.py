"""What is installed, as JSON: the sha256 of the paretopipe wheel in this environment, and requirements not met.

Arguments: requirements, each `name==version`. pip notes a wheel's hash in direct_url.json (PEP 610).
"""

import importlib.metadata
import json
import sys
import sysconfig


def wheel_sha256():
    """The hash of the wheel that this environment's own paretopipe came from; None without one."""
    for found in importlib.metadata.distributions(name="paretopipe", path=[sysconfig.get_path("purelib")]):
        archive = json.loads(found.read_text("direct_url.json") or "{}").get("archive_info", {})
        return archive.get("hashes", {}).get("sha256") or archive.get("hash", "").partition("=")[2] or None
    return None


def missing(requirements):
    """Requirements whose exact version is not there."""
    result = []
    for requirement in requirements:
        name, _, wanted = requirement.partition("==")
        try:
            met = importlib.metadata.version(name) == wanted
        except importlib.metadata.PackageNotFoundError:
            met = False
        if not met:
            result.append(requirement)
    return result


if __name__ == "__main__":
    print(json.dumps({"sha256": wheel_sha256(), "missing": missing(sys.argv[1:])}))  # noqa: T201
