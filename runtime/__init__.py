"""The engine: futures, mailboxes, the actor loop, supervision, limits, retries. Knows no transport by name."""

if __name__ != "concurry.runtime":
    raise ImportError("'runtime' is a part of concurry: import concurry.runtime")
