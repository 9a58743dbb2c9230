"""A small OpenAI-compatible server that behaves like a real one, so that the examples need no account.

    python examples/llm_server.py --port 8000 --latency 0.8 --requests-per-minute 6000

Guarantees: `/v1/chat/completions` and `/v1/models` answer in OpenAI's form, errors included. What a prompt meets (its
answer, how long it takes, whether it fails) follows from the seed, the prompt and how often it was asked before, so a
run can be repeated. Quotas refuse with 429 and `Retry-After`. `/stats` counts what happened; real servers have no such.
Assumes: it is a process of its own, so that it does not compete with the client for one interpreter.
Called by: `support/server.py`, which starts it and stops it by closing its standard input; or by hand.

It answers prompts about clarity with a score that follows simple rules, prompts about orders with what it finds in
them, and everything else with one plain sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; on the command line as `--with-dashes`."""

    port: int = 0  # 0: any that is free
    seed: int = 1
    models: str = "demo-model,gpt-4o-mini"  # with commas between; any other is not found
    latency: float = 0.8  # median, seconds
    latency_spread: float = 0.35  # sigma of the log-normal distribution; 0: every reply takes the median
    latency_max: float = 4.0  # seconds; the tail ends here
    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    quota_window: float = 60.0  # seconds' worth of both quotas may be used up at once
    error_rate: float = 0.0  # share of requests that end in 500
    busy_rate: float = 0.0  # share refused with 429 although the quota has room: other users of the same account
    short_rate: float = 0.0  # share of answers that are cut off after a few characters
    invent_rate: float = 0.0  # share of extracted orders with a number that nobody has said
    context_tokens: int = 8_000  # a longer prompt is refused with 400
    until_eof: bool = False  # end when standard input does: the server goes when its parent goes, however that dies


class Quota:
    """A token bucket: `per_minute` in the long run, `window` seconds' worth at once. Pure but for `now`."""

    def __init__(self, per_minute: float, window: float, now: float) -> None:
        self.rate = per_minute / 60
        self.capacity = self.left = self.rate * window
        self._at = now

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there: 0 where it is, infinity where it never will be."""
        if math.isinf(self.rate):
            return 0.0
        self.left = min(self.capacity, self.left + (now - self._at) * self.rate)
        self._at = now
        if amount > self.capacity:
            return math.inf
        return max(0.0, (amount - self.left) / self.rate)

    def take(self, amount: float) -> None:
        self.left -= amount


class Refusal(Exception):
    """An answer other than 200, in OpenAI's form."""

    def __init__(
        self, status: int, message: str, kind: str, code: str | None, param: str | None = None, wait_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        # Whole seconds, as RFC 9110 has them; OpenAI adds the exact wait in a header of its own.
        said = 0.0 < wait_s < math.inf
        self.headers = {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
        if not said:
            self.headers = {}


class Server:
    """The application's state: quotas, counts, and how often each prompt was asked."""

    def __init__(self, settings: Settings) -> None:
        now = time.monotonic()
        self.settings = settings
        self.models = settings.models.split(",")
        self.requests = Quota(settings.requests_per_minute, settings.quota_window, now)
        self.tokens = Quota(settings.tokens_per_minute, settings.quota_window, now)
        self.asked: Counter[str] = Counter()
        self.stats: Counter[str] = Counter()
        self.open = 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.errors])
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.list_models)
        app.router.add_get("/stats", self.show_stats)
        return app

    @web.middleware
    async def errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if request.path != "/stats" and not request.headers.get("Authorization", "").startswith("Bearer "):
                raise Refusal(
                    401, "You didn't provide an API key: set OPENAI_API_KEY to any text.", "invalid_request_error", None
                )
            return await handler(request)
        except Refusal as refusal:
            self.stats[str(refusal.status)] += 1
            return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
        except web.HTTPNotFound:
            message = f"Invalid URL ({request.method} {request.path})"
            body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
            return web.json_response(body, status=404)

    async def list_models(self, request: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "demo"} for name in self.models]
        return web.json_response({"object": "list", "data": models})

    async def show_stats(self, request: web.Request) -> web.Response:
        return web.json_response(dict(self.stats))

    async def complete(self, request: web.Request) -> web.Response:
        self.open += 1
        self.stats["requests"] += 1
        self.stats["most_at_once"] = max(self.stats["most_at_once"], self.open)
        try:
            return await self._complete(await _json(request))
        finally:
            self.open -= 1

    async def _complete(self, asked: dict[str, Any]) -> web.Response:
        settings = self.settings
        prompt, limit = self._read(asked)
        chance = random.Random(f"{settings.seed} {self.asked[prompt]} {prompt}")
        self.asked[prompt] += 1
        text, prompt_tokens = answer(prompt), count_tokens(prompt)
        fate = chance.random()
        latency = min(settings.latency * math.exp(chance.gauss(0.0, settings.latency_spread)), settings.latency_max)
        if chance.random() < settings.short_rate:
            text = text[:4]
        if chance.random() < settings.invent_rate:
            text = re.sub(r'("quantity": )\d+', r"\g<1>99", text)
        finish = "stop"
        if limit is not None and count_tokens(text) > limit:
            text, finish = text[: 4 * limit], "length"
        usage = prompt_tokens + count_tokens(text)

        self._charge(usage)
        if fate < settings.busy_rate:
            raise self._too_many("requests", 1.0)
        await asyncio.sleep(latency)
        if fate < settings.busy_rate + settings.error_rate:
            raise Refusal(500, "The server had an error while processing your request.", "server_error", None)
        self.stats["200"] += 1
        self.stats["tokens"] += usage
        message = {"role": "assistant", "content": text, "refusal": None}
        return web.json_response(
            {
                "id": f"chatcmpl-{chance.getrandbits(96):024x}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": usage - prompt_tokens,
                    "total_tokens": usage,
                },
            }
        )

    def _read(self, asked: dict[str, Any]) -> tuple[str, int | None]:
        """The prompt, and the most tokens that the answer may have; or a `Refusal`."""
        model, messages = asked.get("model"), asked.get("messages")
        if model not in self.models:
            message = f"The model `{model}` does not exist; there are {', '.join(self.models)}."
            raise Refusal(404, message, "invalid_request_error", "model_not_found", "model")
        if asked.get("stream"):
            raise Refusal(400, "This server does not stream.", "invalid_request_error", None, "stream")
        if not isinstance(messages, list) or not messages:
            raise Refusal(400, "'messages' must be a list of messages.", "invalid_request_error", None, "messages")
        prompt = "\n".join(_text_of(message) for message in messages)
        tokens = count_tokens(prompt)
        if tokens > self.settings.context_tokens:
            message = (
                f"This model's maximum context length is {self.settings.context_tokens} tokens. However, your messages "
                f"resulted in {tokens} tokens. Please reduce the length of the messages."
            )
            raise Refusal(400, message, "invalid_request_error", "context_length_exceeded", "messages")
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            message = "'max_tokens' must be a whole number, 1 or more."
            raise Refusal(400, message, "invalid_request_error", None, "max_tokens")
        return prompt, limit

    def _charge(self, tokens: int) -> None:
        """Take one request and `tokens` from the quotas, or nothing and refuse."""
        now = time.monotonic()
        for name, quota, amount in (("requests", self.requests, 1), ("tokens", self.tokens, tokens)):
            wait_s = quota.wait_for(amount, now)
            if wait_s:
                raise self._too_many(name, wait_s)
        self.requests.take(1)
        self.tokens.take(tokens)

    def _too_many(self, name: str, wait_s: float) -> Refusal:
        hint = "Request too large." if math.isinf(wait_s) else f"Please try again in {wait_s:.3f}s."
        message = f"Rate limit reached on {name} per min. {hint}"
        return Refusal(429, message, name, "rate_limit_exceeded", wait_s=wait_s)


# -- prompts and answers ----------------------------------------------------------------------------------------------


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        asked = await request.json()
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise Refusal(400, "We could not parse the JSON body of your request.", "invalid_request_error", None)
    return asked


def _text_of(message: Any) -> str:
    """The text of one message: plain, or the text parts of a list."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content if isinstance(part, dict) and "text" in part)
    if not isinstance(content, str):
        message = "Every message needs a 'content' of text."
        raise Refusal(400, message, "invalid_request_error", None, "messages")
    return content


def count_tokens(text: str) -> int:
    """A rough count: four characters a token, as English text has."""
    return 1 + len(text) // 4


def answer(prompt: str) -> str:
    """The answer to a prompt; always the same."""
    if "clarity" in prompt:
        score, reason = rate(prompt.partition('"""')[2].rpartition('"""')[0] or prompt)
        return json.dumps({"clarity": score, "reason": reason})
    if '"quantity"' in prompt:
        return json.dumps(extract(prompt))
    words = prompt.split()
    return f"This is the demo server's answer to {' '.join(words[:12])!r}, a prompt of {len(words)} words."


def extract(prompt: str) -> dict[str, object]:
    """The order in a mail, as far as it is written the way that `support/orders.py` does."""
    found = re.search(r"(\d+) (?:boxes|crates|pallets) of ([\w ]+?) to (\w+)", prompt)
    signed = re.search(r"\n([A-Z]\w+ [A-Z]\w+)\s*$", prompt)
    quantity, item, city = found.groups() if found else (0, "", "")
    return {"customer": signed[1] if signed else "", "item": item, "quantity": int(quantity), "city": city}


def rate(docstring: str) -> tuple[int, str]:
    """How clear a docstring is, from 1 to 10, and why. Rules of thumb that a person can check."""
    first, _, rest = docstring.strip().partition("\n")
    words = docstring.split()
    checks = [
        (2, len(first) <= 80 and first.endswith("."), "opens with one short sentence"),
        (2, bool(rest.strip()), "goes beyond the first line"),
        (1, "eturn" in docstring, "says what comes back"),
        (1, "aise" in docstring or "rror" in docstring, "says what can go wrong"),
        (1, ">>>" in docstring or "xample" in docstring, "gives an example"),
        (1, 8 <= len(words) <= 200, "has a readable length"),
        (1, sum(map(len, words)) <= 6.5 * len(words), "uses short words"),
    ]
    good = [what for _, holds, what in checks if holds]
    reason = f"It {', '.join(good)}." if good else "It says very little."
    return 1 + sum(points for points, holds, _ in checks if holds), reason


# -- the process ------------------------------------------------------------------------------------------------------


async def serve(settings: Settings) -> None:
    """Serve until told to end; the first line of output is the address, as JSON."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, ended.set)
    if settings.until_eof:
        loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    # Replies that are still being waited for are dropped at the end: whoever ends the server does not want them.
    runner = web.AppRunner(Server(settings).application(), access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    try:
        # A client of 1,000 connections opens them all at once, and a refused connection is not what is shown here.
        await web.TCPSite(runner, "127.0.0.1", settings.port, backlog=2048).start()
        print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}/v1"}), flush=True)
        await ended.wait()
    finally:
        loop.remove_reader(0)
        await runner.cleanup()


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """`Settings` from the command line; ends the program where one is unknown or of the wrong type."""
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server for the examples.")
    for field in fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default, help="default: %(default)s")
    return Settings(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    asyncio.run(serve(read_settings()))
