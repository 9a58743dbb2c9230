"""A stand-in for the package `litellm`, so that the pages' code runs unchanged without it: two of its functions.

Guarantees: `completion` and `acompletion` take and give what litellm's do for plain chats, and raise openai's errors,
of which litellm's are subclasses. The endpoint is that of `OPENAI_BASE_URL`, the demo server in the tests. It does not
retry, as litellm does not unless it is asked to.
Called by: the code blocks that `tests/test_docs.py` runs, which finds this file through `PYTHONPATH`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from weakref import WeakKeyDictionary

import openai

_lock = threading.Lock()  # protects the making of `_client`: making one takes some 50 ms, and 100 threads begin at once
_client: openai.OpenAI | None = None
_async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = WeakKeyDictionary()


def completion(model: str, messages: Any, **options: Any) -> Any:
    """One chat completion; the reply has `choices` and `usage` as litellm's has."""
    global _client
    with _lock:
        if _client is None:
            _client = openai.OpenAI(max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False))
    return _client.chat.completions.create(model=_bare(model), messages=messages, **options)


async def acompletion(model: str, messages: Any, **options: Any) -> Any:
    """The same for `async def`, with one client for each event loop, as a client belongs to one."""
    loop = asyncio.get_running_loop()
    client = _async_clients.get(loop)
    if client is None:
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
        client = _async_clients[loop] = openai.AsyncOpenAI(max_retries=0, http_client=http_client)
    return await client.chat.completions.create(model=_bare(model), messages=messages, **options)


def _bare(model: str) -> str:
    """litellm writes the provider before the model: `openai/gpt-4o-mini`."""
    return model.rpartition("/")[2]
