"""A program that is on the platform's Ray cluster and no process of the platform: what it gets for calling actors itself.

`python bypass_driver.py RAY_ADDRESS < attacks.json`: each attack asks a method of the actor called `name` with these arguments;
a `pickled` one does so in a Ray task, through a handle that was pickled here. Prints the codes of what came of them.
A program of its own, because a driver must have the cluster's token in its environment before it imports Ray.
"""

from __future__ import annotations

import base64
import json
import pickle
import sys
from typing import Any


def ask(pickled: bytes, arguments: list[Any]) -> str:
    import ray

    try:
        ray.get(pickle.loads(pickled).serve.remote(*arguments), timeout=20)
    except ray.exceptions.RayTaskError as error:
        return str(getattr(error.cause, "code", type(error.cause).__name__))
    return "done"


def main(address: str) -> None:
    import ray

    ray.init(address=address, namespace="stranger", log_to_driver=False, logging_level="ERROR")
    try:
        outcomes = []
        for attack in json.load(sys.stdin):
            handle = pickle.dumps(ray.get_actor(attack["name"], "aip"))
            arguments = [attack["method"], *(base64.b64decode(part) for part in attack["arguments"])]
            if attack["pickled"]:
                outcomes.append(ray.get(ray.remote(ask).options(num_cpus=0).remote(handle, arguments)))
            else:
                outcomes.append(ask(handle, arguments))
        print(json.dumps(outcomes))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
