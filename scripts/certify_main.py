"""`scripts/certify`: policies/.certificate.json, with which the fast engine serves the shipped bundle at the first start."""

from __future__ import annotations

import sys

import msgspec

from aip.governance.policy import bundle as bundles
from aip.governance.policy.rego import prepare
from aip.governance.policy.rollout import CERTIFICATE, shipped


def main() -> int:
    place = shipped()
    ready = prepare(bundles.read(place))
    if ready.certificate is None or ready.why:
        print(f"not certified: {ready.why}", file=sys.stderr)
        return 1
    path = place / CERTIFICATE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ready.certificate), indent=1) + b"\n")
    print(
        f"{path}: {ready.engine.name}, {ready.certificate.decided} decided inputs, {ready.certificate.tests} tests"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
