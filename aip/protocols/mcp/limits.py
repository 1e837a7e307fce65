"""What an outside MCP server may cost us. It is a stranger's program: whatever it can grow has a bound here."""

from __future__ import annotations

# What it lists
TOOLS_MAX = 512  # A language model loses its way far below this; a server that offers more floods.
PAGES_MAX = 64  # A paginator that always has a next page ends here.
NAME_CHARS_MAX = 128  # The specification's own bound for tool names.
DOC_CHARS_MAX = 4_000  # A description is read by models and paid for by the word.
SCHEMA_BYTES_MAX = 64 * 2**10  # The largest honest input schemas have a few kilobytes.
SCHEMA_DEPTH_MAX = 32
NAMES_SHOWN_MAX = 40  # Tools that an error names: enough to see the typing mistake.

# What it says
LINE_BYTES_MAX = (
    16 * 2**20
)  # One message on stdout; beyond the frame limit of the platform nothing could pass on.
RESULT_BYTES_MAX = 8 * 2**20  # The platform's own payload_bytes_max: what is larger belongs in an artifact.
RESULT_PARTS_MAX = 1_000
ERROR_CHARS_MAX = 2_000  # Of what it writes about an error.
PROGRESS_CHARS_MAX = 200
STDERR_BYTES_MAX = 8 * 2**10  # The tail that is kept of what it writes to stderr.
NOISE_LINES_MAX = 1_000  # Lines in a row on stdout that are no message: it does not speak MCP.
REQUESTS_OPEN_MAX = (
    64  # Its own requests that wait for our answer: one that never reads them would fill our memory.
)

# Checking a value against its schema
STEPS_MAX = 200_000  # Keywords that one check may look at: some tenths of a second. References can make it exponential.

# Life
STOP_WAIT_S = 2.0  # From closing its stdin to SIGTERM, and from there to SIGKILL.
RESTARTS_MAX = 5  # Restarts within RESTART_WINDOW_S; a server that dies more often is broken, not unlucky.
RESTART_WINDOW_S = 60.0
BACKOFF_INITIAL_S = 0.2
BACKOFF_MAX_S = 10.0
LISTEN_AGAIN_S = (
    5.0  # Between two attempts to be told of changes: a server that ends the stream at once must not spin us.
)
