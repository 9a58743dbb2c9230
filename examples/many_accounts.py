"""Many accounts and regions: each call takes the quota, and the endpoint, that is free now.

    python examples/many_accounts.py

Three servers stand for the regions of a provider, each with a quota of its own; the one in `us` fails now and then. The
same prompts go to one of them, and then to all three.
"""

import time
from collections import Counter

import openai
from support.server import running_server, server_stats

from concurry import CallLimit, LimitPool, LimitSet, ResourceLimit, Worker, gather

CALLS_A_SECOND = {"eu": 30, "us": 20, "asia": 10}
PROMPTS = [f"What is the number {number} known for?" for number in range(90)]


class Asker(Worker):
    def __init__(self, clients: dict[str, openai.OpenAI]) -> None:
        self.clients = clients

    def ask(self, prompt: str) -> str:
        # Takes one call of the first set that has it free; where all would have to wait, of the first that gets free.
        with self.limits.acquire() as acq:
            region: str = acq.config["region"]
            self.clients[region].chat.completions.create(
                model="demo-model", messages=[{"role": "user", "content": prompt}]
            )
        return region


def quota(region: str) -> LimitSet:
    """What one account may do. `config` is yours: whatever the method needs to know of the set that it was given."""
    share = 1 / CALLS_A_SECOND[region]  # spread over the second: see docs/limits.md, "What the server counts"
    limits = [CallLimit(window_seconds=1.1 * share, capacity=1), ResourceLimit(key="connections", capacity=8)]
    return LimitSet(limits=limits, shared=True, config={"region": region})


def ask_all(urls: dict[str, str], regions: list[str]) -> None:
    clients = {it: openai.OpenAI(base_url=urls[it], api_key="demo", max_retries=0) for it in regions}
    accounts = LimitPool(limit_sets=[quota(it) for it in regions], load_balancing="round_robin")
    options = Asker.options(
        mode="thread",
        max_workers=24,
        limits=accounts,
        num_retries=5,  # an attempt takes its limits anew: after a failure in one region it may go to another
        retry_on=[openai.InternalServerError, openai.RateLimitError],
        retry_wait=0.05,
    )
    start = time.monotonic()
    with options.init(clients) as asker:
        served = Counter(gather([asker.ask(prompt) for prompt in PROMPTS]))
    seconds = time.monotonic() - start
    for client in clients.values():
        client.close()
    refused = sum(server_stats(urls[it]).get("429", 0) for it in regions)
    by_region = ", ".join(f"{served[it]} by {it}" for it in regions)
    print(f"{', '.join(regions)}: {served.total()} answers in {seconds:.1f} s, {by_region}; {refused} refused with 429")


def main() -> None:
    server = {"latency": 0.1, "quota_window": 1}
    with (
        running_server(**server, requests_per_minute=60 * CALLS_A_SECOND["eu"]) as eu,
        running_server(**server, requests_per_minute=60 * CALLS_A_SECOND["us"], error_rate=0.1) as us,
        running_server(**server, requests_per_minute=60 * CALLS_A_SECOND["asia"]) as asia,
    ):
        urls = {"eu": eu, "us": us, "asia": asia}
        ask_all(urls, ["eu"])
        ask_all(urls, ["eu", "us", "asia"])


if __name__ == "__main__":
    main()
