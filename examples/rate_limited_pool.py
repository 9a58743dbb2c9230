"""A pool that keeps within an account's quotas: so many calls and so many tokens a second, whoever makes the calls.

    python examples/rate_limited_pool.py

The server of this example allows 30 calls and 6,000 tokens a second, and refuses what goes beyond with 429. The same 20
threads ask it twice: first without limits, then with.
"""

import time

import openai
from support.server import running_server

from concurry import CallLimit, RateLimit, Worker, gather

PROMPTS = [f"What is the number {number} known for?" for number in range(60)]


class Asker(Worker):
    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    def ask(self, prompt: str) -> str:
        # One call is taken by itself; of the tokens, a guess. Both or neither: a waiting call holds nothing.
        with self.limits.acquire(requested={"tokens": 100}) as acq:
            reply = self.client.chat.completions.create(
                model="demo-model", messages=[{"role": "user", "content": prompt}]
            )
            # What was really used: the rest of the guess is free for the others at once.
            acq.update(usage={"tokens": reply.usage.total_tokens if reply.usage else 100})
        return reply.choices[0].message.content or ""


def quotas() -> list[CallLimit | RateLimit]:
    """Below what the server allows: calls do not arrive in the rhythm in which they were sent."""
    return [
        CallLimit(window_seconds=1, capacity=20),
        RateLimit(key="tokens", window_seconds=1, capacity=4_000),
    ]


def ask_all(base_url: str, limits: list[CallLimit | RateLimit] | None) -> None:
    client = openai.OpenAI(base_url=base_url, api_key="demo", max_retries=0)
    start = time.monotonic()
    # One list of limits, one pool: the 20 actors share them.
    with client, Asker.options(mode="thread", max_workers=20, limits=limits).init(client) as asker:
        replies = gather([asker.ask(prompt) for prompt in PROMPTS], return_exceptions=True)
    seconds = time.monotonic() - start
    refused = sum(isinstance(reply, openai.RateLimitError) for reply in replies)
    print(
        f"{'with limits:' if limits else 'without:':12} {len(replies) - refused} of {len(replies)} answered in "
        f"{seconds:.1f} s, {refused} refused with 429"
    )


def main() -> None:
    server = {"latency": 0.1, "requests_per_minute": 60 * 30, "tokens_per_minute": 60 * 6_000, "quota_window": 1}
    for limits in (None, quotas()):
        with running_server(**server) as base_url:  # a fresh one each, with nothing used up
            ask_all(base_url, limits)


if __name__ == "__main__":
    main()
