"""What hypothesis draws: the same examples in every run, so that what is red is red for everyone, at once.

`scripts/test --random` looks further, with the profile "search": other examples each time, from a seed that it prints.
"""

from hypothesis import settings

settings.register_profile("search", derandomize=False, deadline=None, database=None, print_blob=True)
settings.load_profile("ci")  # Hypothesis' own, which it takes by itself where CI is set.
