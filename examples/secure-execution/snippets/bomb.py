"""As many processes as it can get. Its import makes one reviewer refuse, so a person is asked."""

import os

while True:
    try:
        os.fork()
    except OSError:
        print("no more")
