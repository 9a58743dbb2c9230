"""What the main example is asked to do: the command line, the endpoint, its clients and its quotas.

Guarantees: without `--base-url` the demo server runs for as long as the job is open, and no longer; with one, nothing
is started. The clients never retry by themselves: the workers' retry policy is the only one.
Called by: `batch_llm.py`.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import Any

import openai
from support.prompts import docstrings
from support.server import running_server

from concurry import CallLimit, RateLimit

# The account that the demo server pretends to be. Its quotas allow some 115 calls a second, of which 100 workers at
# 0.85 s a reply make use; one request in 100 fails all the same, as it does elsewhere.
DEMO_SERVER = {
    "latency": 0.8,
    "error_rate": 0.005,
    "busy_rate": 0.005,
    "short_rate": 0.002,
    "requests_per_minute": 7_200,
    "tokens_per_minute": 2_000_000,
    "quota_window": 2,
}
SAMPLE = 10


class Job:
    """One run of the example. Use it with `with`: it starts and stops the demo server where there is need for one."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.mode: str = args.mode
        self.workers: int = args.workers
        self.model: str = args.model
        self.out: str = args.out
        self.docstrings = docstrings(args.prompts)
        self.sample = min(SAMPLE, len(self.docstrings))
        self.base_url: str = args.base_url
        self.is_demo = not args.base_url
        self._args = args
        self._open = ExitStack()

    def __enter__(self) -> Job:
        if self.is_demo:
            self.base_url = self._open.enter_context(running_server(**(DEMO_SERVER | dict(self._args.server))))
        asked = self._args.prompts
        fewer = "" if len(self.docstrings) == asked else f" (there are no {asked:,})"
        print(
            f"{len(self.docstrings):,} docstrings of Python's standard library{fewer}, to be rated by {self.model} at "
            f"{self.base_url}{', the demo server' if self.is_demo else ''}"
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def client(self) -> openai.OpenAI:
        """One client for all threads: making one takes 20 to 60 ms, and it keeps the connections open between calls."""
        return openai.OpenAI(**self._client_args(), http_client=openai.DefaultHttpxClient(trust_env=not self.is_demo))

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            **self._client_args(), http_client=openai.DefaultAsyncHttpxClient(trust_env=not self.is_demo)
        )

    def _client_args(self) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "api_key": "demo" if self.is_demo else os.environ["OPENAI_API_KEY"],
            "max_retries": 0,
            "timeout": 60.0,
        }

    def limits(self) -> list[RateLimit | CallLimit]:
        """The account's quotas, a little below what the endpoint would refuse."""
        window_s = self._args.quota_window
        share = window_s / 60
        return [
            RateLimit(key="tokens", window_seconds=window_s, capacity=self._args.tokens_per_minute * share),
            CallLimit(window_seconds=window_s, capacity=self._args.requests_per_minute * share),
        ]


def read_job(doc: str | None) -> Job:
    """The job that the command line describes; ends the program, with a reason, where it describes none."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=_count, default=1_000, metavar="N", help="how many docstrings (1000)")
    parser.add_argument("--workers", type=_count, default=100, metavar="N", help="calls at one time (100)")
    parser.add_argument("--mode", choices=["thread", "asyncio", "both"], default="both", help="(both)")
    parser.add_argument("--model", default="demo-model", help="the model's name (demo-model)")
    parser.add_argument("--base-url", default="", metavar="URL", help="of a real endpoint; needs OPENAI_API_KEY")
    parser.add_argument("--requests-per-minute", type=_count, default=7_000, metavar="N", help="your quota (7,000)")
    parser.add_argument("--tokens-per-minute", type=_count, default=1_900_000, metavar="N", help="(1,900,000)")
    parser.add_argument(
        "--quota-window", type=_count, metavar="SECONDS", help="spread the quotas over less than a minute (demo: 1)"
    )
    parser.add_argument("--out", default="out", metavar="FOLDER", help="where the plot and the ratings go (out)")
    parser.add_argument(
        "--server", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="of the demo server"
    )
    args = parser.parse_args()
    if args.base_url and not os.environ.get("OPENAI_API_KEY"):
        parser.error(f"{args.base_url} needs a key: set the environment variable OPENAI_API_KEY")
    if args.base_url and args.server:
        parser.error("--server is for the demo server, which does not run with --base-url")
    if args.quota_window is None:
        args.quota_window = 60 if args.base_url else 1
    return Job(args)


def _count(text: str) -> int:
    number = int(text.replace(",", "").replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return number


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, such as latency=0.05, not {text!r}")
    return name, value
