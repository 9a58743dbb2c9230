"""The wires: how calls reach an actor and replies come back, one file a mode.

The bottom floor. It imports nothing of `concurry.runtime`; what an actor does is handed in by the runtime.
"""

if __name__ != "concurry.transports":
    raise ImportError("'transports' is a part of concurry: import concurry.transports")
