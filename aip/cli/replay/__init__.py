"""`aip run replay`: a run again from its journal, step by step; a task of it again, in this process.

    RUN                 folds the journal, tells each step, and verifies that it comes to what was stored     `fold`
    RUN/TASK[/UNIT]     asks the task's agent again, with the arguments that the recorded outputs give       `work`, `rehearsal`

A task's replay performs no effect: each is answered from its record and refused where there is none, and so is every call to a
model, a tool or any other agent whose code is not the plan's own. What an agent does behind the platform's back (a file it
writes without `ctx.effect`) it does again: a replay is no sandbox.

`command` alone is read by `aip --help`; the rest, which is heavy, when it is used.
"""

from .command import replay

__all__ = ["replay"]
