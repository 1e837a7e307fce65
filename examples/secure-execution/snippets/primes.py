"""The first primes. Nobody objects."""

import itertools
from collections.abc import Iterator


def primes() -> Iterator[int]:
    found: list[int] = []
    for number in itertools.count(2):
        if all(number % prime for prime in found):
            found.append(number)
            yield number


print(list(itertools.islice(primes(), 20)))
