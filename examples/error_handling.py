"""A batch in which some inputs fail: which, why, after how many attempts, and what to do about it.

    python examples/error_handling.py

The server of this example fails every fifth request with a 500. Beside that, one text is too long for the model, and
one answer is cut off however often it is asked for. Neither takes anything from the others.
"""

from typing import Any

import openai
from support.server import running_server

from concurry import RetryValidationError, Worker, gather

TEXTS = {f"report {number}": f"Sum up report number {number} in one sentence." for number in range(1, 41)}
TEXTS["the long one"] = "Sum up this: " + "and so on " * 1_000
MOST_TOKENS = {"report 7": 5}  # the answer needs more


class Summarizer(Worker):
    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    def summarize(self, text: str, most_tokens: int = 200) -> str:
        reply = self.client.chat.completions.create(
            model="demo-model", messages=[{"role": "user", "content": text}], max_tokens=most_tokens
        )
        return reply.choices[0].message.content or ""


def is_complete(summary: str) -> bool:
    return summary.endswith(".")


def explain(error: BaseException) -> str:
    """One line: why it failed, and how often it was tried."""
    if isinstance(error, RetryValidationError):
        return f"tried {error.attempts} times, never complete: {error.all_results[-1]!r}"
    if isinstance(error, openai.BadRequestError):  # not in `retry_on`: asking again would not help
        return f"not tried again: {error.message.partition('.')[0]}"
    return f"{type(error).__name__}: {error}"  # out of retries: the last error, with the earlier ones noted on it


def main() -> None:
    with running_server(latency=0.05, error_rate=0.2, context_tokens=2_000) as base_url:
        client = openai.OpenAI(base_url=base_url, api_key="demo", max_retries=0)
        options = Summarizer.options(
            mode="thread",
            max_workers=20,
            num_retries=5,
            retry_on=[openai.InternalServerError, openai.RateLimitError, openai.APIConnectionError],
            retry_until=is_complete,
            retry_wait=0.05,
        )
        with client, options.init(client) as summarizer:
            futures = {name: summarizer.summarize(text, MOST_TOKENS.get(name, 200)) for name, text in TEXTS.items()}
            # With `return_exceptions=True` an exception stands in the place of the result that it prevented.
            results: dict[str, Any] = gather(futures, return_exceptions=True)
            failed = {name: error for name, error in results.items() if isinstance(error, BaseException)}
            print(f"{len(results) - len(failed)} of {len(results)} summarized; failed:")
            for name, error in failed.items():
                print(f"  {name}: {explain(error)}")

            # Only what failed, another way. Without `return_exceptions` the first error would be raised here.
            again = {name: summarizer.summarize(TEXTS[name][:500]) for name in failed}
            results.update(gather(again))
        print(f"second round: {len(again)} of {len(again)} summarized, {len(results)} in all")


if __name__ == "__main__":
    main()
