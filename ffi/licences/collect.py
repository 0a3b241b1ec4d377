#!/usr/bin/env python3
"""Writes what a library that contains other people's work must come with: their notices and licences (THIRD-PARTY.txt) and a list of
the parts in the form CycloneDX 1.5 (sbom.cdx.json), for the library of the cpu backend and, in wgpu/, for the one with the GPU's too.

    ffi/licences/collect.py [--check]

The parts are those that cargo links on any platform, by Cargo.lock; the texts are the licence files in the parts' own packages, each
text once. A part without such a file gets the common words of its licence, by TEXTS, or is an error. It needs Python 3.8 and cargo.
"""

import json
import os
import re
import subprocess
import sys
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILDS = [(".", "threads,reference,embedded-digits"), ("wgpu", "threads,reference,embedded-digits,wgpu")]
NAMES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# The licence of a part that comes without its text: words that are the same for everybody.
TEXTS = {"Apache-2.0": "LICENSE-APACHE", "MIT": "LICENSE-MIT"}
STD = """\
The Rust standard library is part of every build. It is copyright (c) The Rust Project Contributors and licensed under either of
the Apache License, Version 2.0 or the MIT license; the notices of what it contains are in COPYRIGHT-library.html of the Rust
distribution that built the library, which stands beside this file where that distribution has it.
"""


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def linked(features):
    """(name, version) of every package in the library, but those of this project; and who uses whom, by name and version."""
    tree = ["tree", "-q", "--locked", "-p", "undiffuse-lib", "--no-default-features", "--features", features]
    tree += ["-e", "normal,no-proc-macro", "--target", "all", "--prefix", "none", "--format", "{p}"]
    words = [line.split() for line in cargo(*tree).splitlines()]
    return sorted({(w[0], w[1].lstrip("v")) for w in words if w and not w[0].startswith("undiffuse")})


def checksums():
    """Of each package in Cargo.lock."""
    found, name, version = {}, None, None
    with open(os.path.join(ROOT, "Cargo.lock"), encoding="utf-8") as lock:
        for line in lock:
            key, _, value = line.strip().partition(" = ")
            value = value.strip('"')
            if key == "name":
                name = value
            elif key == "version":
                version = value
            elif key == "checksum":
                found[name, version] = value
    return found


def expression(text):
    """An SPDX expression: older packages write / for OR."""
    return text.replace("/", " OR ")


def texts(package):
    """The licence files of a package, in the order of their names: the parts' own words, whatever choice they give."""
    folder = os.path.dirname(package["manifest_path"])
    files = sorted(f for f in os.listdir(folder) if NAMES.match(f) and os.path.isfile(os.path.join(folder, f)))
    found = []
    for name in files:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
            found.append("\n".join(line.rstrip() for line in f.read().strip().splitlines()))
    if not found:
        choices = re.split(r" OR ", expression(package["license"] or ""))
        stand_in = next((TEXTS[c] for c in choices if c in TEXTS), None)
        if stand_in is None:
            sys.exit(f"{package['name']} {package['version']} ({package['license']}) has no licence file: find its text")
        with open(os.path.join(ROOT, stand_in), encoding="utf-8") as f:
            lines = [line.rstrip() for line in f.read().strip().splitlines()]
        if stand_in == "LICENSE-MIT":
            lines = [f"Copyright (c) the authors of {package['name']}" if l.startswith("Copyright") else l for l in lines]
        found.append("\n".join(lines))
    return found


def notices(packages):
    numbers, bodies, lines = {}, [], []
    for p in packages:
        mine = []
        for text in texts(p):
            if text not in numbers:
                numbers[text] = len(numbers) + 1
                bodies.append(text)
            mine.append(str(numbers[text]))
        authors = ", ".join(re.sub(r" *<.*?>", "", a) for a in p["authors"])
        of = f", by {authors}" if authors else ""
        lines.append(f"{p['name']} {p['version']}{of}\n    {expression(p['license'])}; texts {', '.join(mine)}\n    {p['repository'] or ''}")
    rule = "=" * 100
    parts = [
        "The library undiffuse contains the following works of others.\nMade by ffi/licences/collect.py.",
        STD.rstrip(),
        *lines,
        *(f"{rule}\nText {i}\n{rule}\n\n{body}" for i, body in enumerate(bodies, 1)),
    ]
    return "\n\n".join(parts) + "\n"


def sbom(packages, own, sums, build):
    def component(p):
        c = {
            "type": "library",
            "bom-ref": f"pkg:cargo/{p['name']}@{p['version']}",
            "name": p["name"],
            "version": p["version"],
            "licenses": [{"expression": expression(p["license"])}],
            "purl": f"pkg:cargo/{p['name']}@{p['version']}",
        }
        if p["description"]:
            c["description"] = " ".join(p["description"].split())
        if (p["name"], p["version"]) in sums:
            c["hashes"] = [{"alg": "SHA-256", "content": sums[p["name"], p["version"]]}]
        if p["repository"]:
            c["externalReferences"] = [{"type": "vcs", "url": p["repository"]}]
        return c

    std = {"type": "library", "bom-ref": "rust-std", "name": "std", "description": "The Rust standard library, of the compiler that builds"}
    std["licenses"] = [{"expression": "MIT OR Apache-2.0"}]
    components = [component(p) for p in packages] + [std]
    main = {k: v for k, v in component(own).items() if k != "externalReferences"}
    main["licenses"] = [{"expression": own["license"]}]
    # The same parts have the same number, so that the file is the same wherever it is made.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([build, components], sort_keys=True))
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {"component": main},
        "components": components,
        "dependencies": [{"ref": main["bom-ref"], "dependsOn": [c["bom-ref"] for c in components]}],
    }
    return json.dumps(bom, indent=1) + "\n"


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--all-features"))
    known = {(p["name"], p["version"]): p for p in metadata["packages"]}
    own = next(p for p in metadata["packages"] if p["name"] == "undiffuse")
    stale = []
    for folder, features in BUILDS:
        packages = [known[key] for key in linked(features)]
        for name, text in [("THIRD-PARTY.txt", notices(packages)), ("sbom.cdx.json", sbom(packages, own, checksums(), folder))]:
            path = os.path.normpath(os.path.join(HERE, folder, name))
            if not check:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            elif not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
                stale.append(os.path.relpath(path, ROOT))
        print(f"{folder}: {len(packages)} packages of others")
    if stale:
        sys.exit(f"not what Cargo.lock says: {', '.join(stale)}: run ffi/licences/collect.py")


main()
