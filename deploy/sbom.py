"""Write the bill of materials of a running tlog: every package that it needs, its version and its licence.

CycloneDX 1.6 in JSON, made from the metadata of the packages that are installed, without any network, and
checked against the schema before it is written. The same environment gives the same bytes.

    python deploy/sbom.py --out build/tlog.cdx.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "tlog"
LICENCES = frozenset(
    {
        *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0"),
        *("MPL-2.0", "OLDAP-2.8", "PSF-2.0"),
    }
)
"""The SPDX licences that dependencies may have: whoever runs tlog may use these beside Apache-2.0."""
# What older metadata says instead.
_TEXTS = {"3-Clause BSD License": "BSD-3-Clause", "ISC License": "ISC"}
_CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
}


def needed(package: str = PACKAGE) -> Iterator[tuple[Distribution, list[str]]]:
    """Yield a package and all that it needs, each once, with the names of what it needs itself."""
    waiting, seen = [(canonicalize_name(package), frozenset[str]())], set[str]()
    while waiting:
        name, extras = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        needs = [
            need
            for need in map(Requirement, found.requires or ())
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        ]
        waiting += [(canonicalize_name(need.name), frozenset(need.extras)) for need in needs]
        yield found, sorted({canonicalize_name(need.name) for need in needs})


def licence_of(found: Distribution) -> str | None:
    """Return a package's licence as an SPDX expression; None where its metadata does not say."""
    metadata = found.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    text = str(metadata["License"]).strip() if "License" in metadata else ""
    text = _TEXTS.get(text, text)
    if text in LICENCES:
        return text
    named = {_CLASSIFIERS[one] for one in metadata.get_all("Classifier") or () if one in _CLASSIFIERS}
    return named.pop() if len(named) == 1 else None


def build_sbom() -> bytes:
    """Build the document. Raises LookupError for a package whose licence is not known."""
    components: dict[str, Component] = {}
    needs_of: dict[str, list[str]] = {}
    for found, needs in needed():
        name, licence = canonicalize_name(found.name), licence_of(found)
        if licence is None:
            raise LookupError(f"the metadata of {name} {found.version} says no licence that is known here")
        declared = LicenseFactory().make_from_string(
            licence, license_acknowledgement=LicenseAcknowledgement.DECLARED
        )
        components[name] = Component(
            type=ComponentType.APPLICATION if name == PACKAGE else ComponentType.LIBRARY,
            name=name,
            version=found.version,
            purl=None if name == PACKAGE else PackageURL("pypi", name=name, version=found.version),
            bom_ref=f"{name}=={found.version}",
            licenses=[declared],
        )
        needs_of[name] = needs
    bom = Bom(components=[component for name, component in components.items() if name != PACKAGE])
    bom.metadata.component = components[PACKAGE]
    for name, needs in needs_of.items():
        bom.register_dependency(components[name], [components[need] for need in needs])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # When it was made, and a number drawn for it, would make every copy another one.
    del document["serialNumber"], document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def check_sbom(data: bytes) -> None:
    """Check a document against the schema of CycloneDX 1.6. Raises ValueError."""
    from cyclonedx.validation.json import JsonStrictValidator  # here: it builds grammars for a second

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    if problem is not None:
        raise ValueError(f"this is no CycloneDX 1.6: {problem}")


def main() -> int:
    """Write the document, and return the exit code."""
    parser = argparse.ArgumentParser(description="Write tlog's bill of materials, CycloneDX 1.6 in JSON.")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    out: Path = parser.parse_args().out
    data = build_sbom()
    check_sbom(data)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    print(f"wrote {out}: {len(json.loads(data)['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
